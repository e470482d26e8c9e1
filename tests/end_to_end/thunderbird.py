"""A real Thunderbird without a screen, used as people do: account, compose window, Get Messages, message pane."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.end_to_end.account_hub import AccountHub
from tests.end_to_end.marionette import SECONDS, DialogOpen, Marionette
from tests.end_to_end.programs import find
from tests.end_to_end.server import Security, eventually

PREFERENCES = {
    # Take any free port; Thunderbird writes into the profile which one it is.
    "marionette.port": 0,
    # Its log, in thunderbird.log beside the profile, tells the whole conversation.
    "devtools.console.stdout.chrome": True,
    "mailnews.pop3.loglevel": "All",
    "mailnews.smtp.loglevel": "All",
    # Nothing that asks, informs, or calls a server of the makers.
    "app.normandy.enabled": False,
    "app.update.enabled": False,
    "datareporting.healthreport.uploadEnabled": False,
    "extensions.update.enabled": False,
    "mail.inappnotifications.enabled": False,
    "mail.provider.suppress_dialog_on_startup": True,
    "mailnews.start_page.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "http://127.0.0.1:1/",
    "toolkit.telemetry.enabled": False,
    # Text goes out as it was written, no copy is kept here, and the connection is not kept for a next letter.
    "mail.identity.default.compose_html": False,
    "mail.identity.default.fcc": False,
    "mail.smtpserver.default.quit_delay_ms": 0,
    "mailnews.send_plaintext_flowed": False,
    "mailnews.wraplength": 0,
}


class Failed(AssertionError):
    """Thunderbird could not send or fetch; the message has the code, and what its dialogs said."""


@dataclass(frozen=True)
class Shown:
    """A letter as its reader has it."""

    text: str
    attachments: dict[str, bytes]


class Thunderbird:
    """One Thunderbird with a new profile under ``folder``; it runs inside a ``with`` statement."""

    def __init__(self, folder: Path, user_js: str = "", etc: Path | None = None) -> None:
        """:param user_js: what its profile is to begin with.
        :param etc: what it is to find as ``/etc/thunderbird``; that takes root's rights.
        """
        self._folder = folder
        self._etc = etc
        self._types_passwords = False
        self._said_by_dialogs: list[str] = []  # by those that kept a script from being run
        self._profile = folder / "profile"
        self._profile.mkdir(parents=True)
        lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in PREFERENCES.items()]
        (self._profile / "user.js").write_text(user_js + "".join(lines))

    def __enter__(self) -> Self:
        program = find("thunderbird")
        assert program, "Thunderbird is not installed"
        # Two that share a folder for temporary files delete each other's letters.
        folders = dict.fromkeys(("HOME", "TMPDIR"), str(self._folder))
        environment = os.environ | folders | {"LANG": "C.UTF-8", "MOZ_CRASHREPORTER_DISABLE": "1"}
        environment.pop("DBUS_SESSION_BUS_ADDRESS", None)
        command = [program, "--headless", "--no-remote", "--profile", str(self._profile)]
        if self._etc:
            mount = 'mount --bind "$0" /etc/thunderbird && exec "$@"'
            command = ["unshare", "--mount", "sh", "-c", mount, str(self._etc), *command]
        with (self._folder / "thunderbird.log").open("wb") as log:
            self._process = subprocess.Popen(
                [*command, "--marionette", "--remote-allow-system-access"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self._marionette = Marionette(eventually(self._port, "Thunderbird listens", SECONDS))
            self._eventually("return main()?.document.readyState == 'complete' && !!main().gTabmail", "main window")
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # No good-bye: a dialog would keep it from leaving, and nobody needs the profile any more.
        self._marionette.close()
        self._kill()

    def add_account(
        self,
        address: str,
        password: str,
        *,
        pop3: int,
        smtp: int,
        smtp_authentication: str = "passwordCleartext",
        leave_on_server: bool = True,
        security: Security = Security.NONE,
    ) -> None:
        """Set up an account on these ports of this host, as the account assistant does at its end.

        :param smtp_authentication: a name from Thunderbird's ``nsMsgAuthMethod``.
        """
        self._marionette.run(
            """
            const [address, password, pop3, smtp, authentication, leaveMessagesOnServer, security] = args;
            const from = "resource:///modules/accountcreation/";
            const {AccountConfig} = ChromeUtils.importESModule(from + "AccountConfig.sys.mjs");
            const {CreateInBackend} = ChromeUtils.importESModule(from + "CreateInBackend.sys.mjs");
            const {passwordCleartext} = Ci.nsMsgAuthMethod, socketType = Ci.nsMsgSocketType[security];
            const both = {hostname: "127.0.0.1", socketType, username: address, password};
            const config = new AccountConfig();
            config.rememberPassword = true;
            Object.assign(config.identity, {realname: "Test User", emailAddress: address});
            Object.assign(config.incoming, both, {type: "pop3", port: pop3, auth: passwordCleartext,
                leaveMessagesOnServer, loginAtStartup: false, downloadOnBiff: false, checkInterval: 600});
            Object.assign(config.outgoing, both, {type: "smtp", port: smtp, addThisServer: true,
                auth: Ci.nsMsgAuthMethod[authentication]});
            const account = await CreateInBackend.createAccountInBackend(config);
            account.incomingServer.doBiff = false;
            MailServices.accounts.defaultAccount = account;
            """,
            *(address, password, pop3, smtp, smtp_authentication, leave_on_server, security.value),
        )

    def open_account_hub(self) -> AccountHub:
        """The dialog in which people set up an account."""
        return AccountHub(self._marionette)

    def type_passwords(self, password: str) -> None:
        """Type ``password`` into every dialog that asks for one, from now on."""
        self._types_passwords = True
        self._marionette.run(
            """
            const [password] = args;
            main().passwordsAskedFor = [];
            Services.obs.addObserver(({Dialog: {ui}}) => {
                if (ui.password1Container.hidden) return;
                main().passwordsAskedFor.push(ui.infoBody.textContent);
                ui.password1Textbox.value = password;
                ui.button0.click();
            }, "common-dialog-loaded");
            """,
            password,
        )

    def passwords_asked_for(self) -> list[str]:
        """What the dialogs have said in which passwords were typed."""
        texts: list[str] = self._marionette.run("return main().passwordsAskedFor")
        return texts

    def trust(self, ca: Path) -> None:
        """Import an authority, as README.md says: from now on it may vouch for servers."""
        self._marionette.run(
            """
            const certificates = Cc["@mozilla.org/security/x509certdb;1"].getService(Ci.nsIX509CertDB);
            certificates.addCertFromBase64(args[0].replace(/-----[A-Z ]+-----|\\s/g, ""), "C,,");
            """,
            ca.read_text(),
        )

    def set_password(self, password: str) -> None:
        """Put another password in the place of what is saved and remembered for both servers."""
        self._marionette.run(
            """
            for (const old of await Services.logins.getAllLogins()) {
                const changed = old.clone();
                changed.password = args[0];
                await Services.logins.modifyLoginAsync(old, changed);
            }
            server().password = args[0];
            """,
            password,
        )

    def send(self, to: str, subject: str, text: str, attachment: Path, *, receipt: bool = False) -> None:
        """Write a message in a compose window and press its Send button; it must be sent.

        :param receipt: whether Options, Delivery Status Notification is ticked before.
        """
        self._marionette.run(
            """
            const [to, subject, body, path] = args;
            const make = (name, kind) => Cc["@mozilla.org/" + name + ";1"].createInstance(kind);
            const file = make("file/local", Ci.nsIFile);
            file.initWithPath(path);
            const attachment = make("messengercompose/attachment", Ci.nsIMsgAttachment);
            Object.assign(attachment, {url: Services.io.newFileURI(file).spec, name: file.leafName});
            const fields = make("messengercompose/composefields", Ci.nsIMsgCompFields);
            Object.assign(fields, {to, subject, body});
            fields.addAttachment(attachment);
            const message = make("messengercompose/composeparams", Ci.nsIMsgComposeParams);
            message.identity = MailServices.accounts.defaultAccount.defaultIdentity;
            message.format = Ci.nsIMsgCompFormat.PlainText;
            message.composeFields = fields;
            MailServices.compose.OpenComposeWindowWithParams(null, message);
            """,
            *(to, subject, text, str(attachment)),
        )
        self._eventually(
            """
            const w = composer();
            return w?.gLoadingComplete && !w.gWindowLocked && w.GetCurrentEditor().document.body.textContent
                && !w.document.getElementById("button-send").disabled;
            """,
            "a compose window whose Send button can be pressed",
        )
        if receipt:
            self._marionette.run('composer().document.getElementById("dsnMenu").doCommand()')
        try:
            self._carry_out(
                """
                composer().gMsgCompose.addMsgSendListener({
                    QueryInterface: ChromeUtils.generateQI(["nsIMsgSendListener"]),
                    onStartSending() {}, onSendProgress() {}, onStatus() {}, onGetDraftFolderURI() {},
                    onSendNotPerformed() {}, onTransportSecurityError() {},
                    onStopSending(id, status) { ended(status); },
                });
                composer().document.getElementById("button-send").click();
                """,
                "an outcome of sending",
            )
        except Failed:
            eventually(self._closed_composer, "Thunderbird has closed the compose window", SECONDS)
            raise
        self._eventually("return !composer()", "no compose window left")

    def get_messages(self) -> int:
        """Get Messages; returns how many came."""
        before = self._count_messages()
        self._carry_out(
            """
            MailServices.pop3.GetNewMail(null, {
                QueryInterface: ChromeUtils.generateQI(["nsIUrlListener"]),
                OnStartRunningUrl() {},
                OnStopRunningUrl(url, status) { ended(status); },
            }, inbox(), server());
            """,
            "an outcome of Get Messages",
        )
        return self._count_messages() - before

    def read(self, subject: str) -> Shown:
        """Select a message in the inbox; returns what the message pane shows, and the attachments saved from it."""
        self._eventually(
            """
            const pane = main().gTabmail.currentAbout3Pane;
            if (pane.gFolder?.URI != inbox().URI) pane.displayFolder(inbox().URI);
            const rows = [...Array(pane.gDBView?.rowCount ?? 0).keys()];
            const row = rows.find(row => pane.gDBView.getMsgHdrAt(row).mime2DecodedSubject == args[0]);
            if (row === undefined) return false;
            pane.threadTree.selectedIndex = row;
            return true;
            """,
            f"a message {subject!r} in the inbox",
            subject,
        )
        text, names = self._eventually(
            """
            const pane = main().gTabmail.currentAboutMessage;
            if (pane?.gMessage?.mime2DecodedSubject != args[0] || !pane.msgLoaded) return null;
            const text = pane.getMessagePaneBrowser().contentDocument.querySelector(".moz-text-plain");
            return text && [text.textContent, pane.currentAttachments.map(attachment => attachment.name)];
            """,
            f"the message {subject!r} in the message pane",
            subject,
        )
        return Shown(text, {name: self._save(name) for name in names})

    def _carry_out(self, script: str, what: str) -> None:
        """Do something that calls ``ended(status)`` in its own time; dialogs that it shows are cancelled.

        :raises Failed:
        """
        self._marionette.attempt(
            f"""
            const window = main();
            window.statusAtEnd = null;
            window.saidByDialogs = [];
            // Thunderbird may say that it was broken off, and then why: by the first alone nothing has ended.
            const ended = status => {{ if (status >>> 0 != Cr.NS_ERROR_ABORT) window.statusAtEnd = status >>> 0; }};
            // Not at once: a dialog would keep this script from its end.
            window.setTimeout(() => {{ {script} }});
            """
        )
        self._said_by_dialogs.clear()
        status, said = eventually(self._ended, f"Thunderbird has {what}", SECONDS)
        if status:
            raise Failed(f"{status:#x} {' '.join([*said, *self._said_by_dialogs])}")

    def _ended(self) -> tuple[int, list[str]] | None:
        """The status that something has ended with, and what its dialogs said; cancels those that keep it from that."""
        if not self._cancel_dialogs():
            return None
        status, said = self._past_dialogs("return [main().statusAtEnd, main().saidByDialogs]") or (None, [])
        return None if status is None else (status, said)

    def _cancel_dialogs(self) -> bool:
        """Cancel the dialogs that are open, unless they are answered; returns whether there was none."""
        return self._types_passwords or bool(
            self._past_dialogs(
                """
                const text = d => d.querySelector("#infoBody")?.textContent ?? d.title;
                const dialogs = [...Services.wm.getEnumerator(null)]
                    .map(w => w.document.querySelector("#commonDialog, #exceptiondialog"))
                    .filter(dialog => dialog && text(dialog.ownerDocument));  // it is complete
                for (const dialog of dialogs) {
                    // Kept there: where a dialog comes or goes meanwhile, what a script returns is lost.
                    (main().saidByDialogs ??= []).push(text(dialog.ownerDocument));
                    main().setTimeout(() => dialog.cancelDialog());
                }
                return !dialogs.length;
                """
            )
        )

    def _past_dialogs(self, script: str) -> Any:
        """What a script returns; ``None`` where a dialog is in its way, which is cancelled."""
        try:
            return self._marionette.run(script)
        except DialogOpen as dialog:
            if str(dialog) and not self._types_passwords:
                self._said_by_dialogs.append(str(dialog))
                self._marionette.dismiss_dialog()
            return None

    def _closed_composer(self) -> bool:
        """Close the compose window, and what dialogs it still opens; returns whether they are gone."""
        return self._cancel_dialogs() and bool(
            self._past_dialogs(
                """
                const w = composer();
                if (w) {
                    w.gContentChanged = w.gMsgCompose.bodyModified = false;
                    w.close();
                }
                return !w;
                """
            )
        )

    def _count_messages(self) -> int:
        """How many are in the inbox; dialogs that are still in the way are cancelled."""
        script = "return [inbox().getTotalMessages(false)]"
        [count] = eventually(
            lambda: self._cancel_dialogs() and self._past_dialogs(script),
            "Thunderbird has an inbox to look at",
            SECONDS,
        )
        return int(count)

    def _save(self, name: str) -> bytes:
        target = self._folder / "saved"
        self._marionette.run(
            """
            const pane = main().gTabmail.currentAboutMessage;
            await pane.currentAttachments.find(attachment => attachment.name == args[0]).saveToFile(args[1], true);
            """,
            *(name, str(target)),
        )
        return target.read_bytes()

    def _port(self) -> int:
        assert self._process.poll() is None, "Thunderbird ended at once"
        with contextlib.suppress(FileNotFoundError):
            return int((self._profile / "MarionetteActivePort").read_text() or 0)
        return 0

    def _eventually(self, script: str, what: str, *arguments: object) -> Any:
        return eventually(lambda: self._marionette.attempt(script, *arguments), f"Thunderbird has {what}", SECONDS)

    def _kill(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
