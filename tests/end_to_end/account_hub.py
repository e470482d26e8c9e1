"""Thunderbird's account hub, as somebody new uses it: a name, an address, Continue; a password, Continue."""

from __future__ import annotations

from typing import Any

from tests.end_to_end.marionette import SECONDS, DialogCame, DialogOpen, Marionette
from tests.end_to_end.server import eventually

# Every script begins with this.
HUB = """
    const hub = main().document.querySelector("account-hub-container")?.modal?.querySelector("account-hub-email");
    const seen = selector => hub && [...hub.querySelectorAll(selector)].find(one => one.checkVisibility());
    const inside = (one, selector) => one?.shadowRoot?.querySelector(selector);
    const said = () => {
        const step = [...hub.querySelectorAll("*")]
            .find(one => inside(one, "account-hub-header") && one.checkVisibility());
        const note = inside(inside(step, "account-hub-header"), "#emailFormNotification");
        return note && !note.hidden ? {kind: note.className, text: note.textContent} : {};
    };
"""
BOX = """
    const box = [...Services.wm.getEnumerator(null)].map(w => w.document)
        .find(one => one.getElementById("exceptiondialog"));
"""
SHOWN = (  # the parts of what was found; those that both servers share stand once
    *("incomingType", "incomingHost", "incomingPort", "incomingSocketType", "incomingAuthenticationType"),
    *("outgoingType", "outgoingHost", "outgoingPort", "outgoingSocketType", "outgoingAuthenticationType"),
    *("sharedUsername", "sharedSocketType", "sharedAuthenticationType"),
)


class AccountHub:
    """The hub of one running Thunderbird."""

    def __init__(self, marionette: Marionette) -> None:
        self._marionette = marionette
        marionette.run('await main().openAccountHub("MAIL")')

    def look_up(self, name: str, address: str) -> dict[str, str]:
        """Give a name and an address; returns what the hub shows as found."""
        self._type("#realName", name)
        self._type("#email", address)
        self._continue()
        step = self._eventually(
            "return seen('#emailConfigFoundSubview, #emailIncomingConfigSubview')?.id", "an outcome of looking up"
        )
        assert step == "emailConfigFoundSubview", f"nothing was found: {self._marionette.run(HUB + 'return said()')}"
        shown: dict[str, str] = self._eventually(
            """
            const parts = args.filter(id => seen("#" + id)).map(id => [id, seen("#" + id).textContent.trim()]);
            return parts.every(([, text]) => text) && Object.fromEntries(parts);
            """,
            "a complete configuration",
            *SHOWN,
        )
        self._continue()
        return shown

    def log_in(self, password: str) -> None:
        """Give the password; what it leads to is told by the other methods."""
        self._type("#password", password)
        self._continue()

    def outcome(self) -> str:
        """Empty where there is an account now, else what the hub says is wrong."""
        [text] = eventually(self._outcome, "the account hub has an outcome of logging in", SECONDS)
        return " ".join(text.split())  # with what stands behind "Show more"

    def _outcome(self) -> list[str]:
        try:
            told: list[str] = self._marionette.run(
                HUB
                + """
                if (seen("#emailAddedSuccessSubview")) return [""];
                const {kind, text} = said();
                return kind?.includes("error") && text ? [text] : [];
                """
            )
        except DialogOpen:  # one more than the one that was cancelled
            self._marionette.dismiss_dialog()
            return []
        return told

    def cancel_dialog(self) -> str:
        """Cancel the dialog that opens over the hub; returns what it said."""
        text = eventually(self._dialog, "the account hub has a dialog over it", SECONDS)
        # In a script of its own: where a dialog goes meanwhile, what a script returns is lost.
        try:
            self._marionette.run(
                BOX + "main().setTimeout(() => box?.getElementById('exceptiondialog').cancelDialog());"
            )
        except DialogOpen:
            self._marionette.dismiss_dialog()
        return text

    def _dialog(self) -> str:
        """What the dialog says that is open; empty where there is none, or it is not complete."""
        try:
            text: str = self._marionette.run(
                BOX
                + """
                if (!box || box.defaultView.gChecking) return "";
                const texts = ["warningText", "statusDescription", "statusLongDescription"]
                    .map(id => box.getElementById(id)?.textContent);
                return texts.every(Boolean) ? [box.getElementById("locationTextBox").value, ...texts].join(" ") : "";
                """
            )
        except DialogOpen as dialog:
            return str(dialog)
        return text

    def finish(self) -> None:
        """Close the hub at its end."""
        self._continue()
        self._eventually("return !seen('account-hub-footer')", "no hub left")

    def _type(self, field: str, text: str) -> None:
        self._eventually(
            """
            const field = seen(args[0]);
            if (!field || field.disabled) return false;
            field.focus();
            field.value = args[1];
            field.dispatchEvent(new (main().InputEvent)("input", {bubbles: true}));
            return true;
            """,
            f"a field {field}",
            *(field, text),
        )

    def _continue(self) -> None:
        eventually(self._press, "the account hub has a Continue button that can be pressed", SECONDS)

    def _press(self) -> bool:
        """Press Continue, if it can be pressed; returns whether it could."""
        try:
            pressed: bool = self._marionette.run(
                HUB
                + """
                const button = seen("account-hub-footer #forward");
                if (!button || button.disabled || hub.classList.contains("busy")) return false;
                button.click();
                return true;
                """
            )
        except DialogCame:
            return True  # it has led to a dialog, and so at once that we do not hear of it
        return pressed

    def _eventually(self, script: str, what: str, *arguments: object) -> Any:
        return eventually(
            lambda: self._marionette.attempt(HUB + script, *arguments), f"the account hub has {what}", SECONDS
        )
