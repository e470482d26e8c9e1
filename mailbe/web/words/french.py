"""The words of our pages in French, in the polite form."""

# ruff: noqa: RUF001, RUF003 - the apostrophe

from __future__ import annotations

_TEXT = {
    "language": "Français",
    "brand": "Courrier",
    "skip": "Aller au contenu",
    "languages": "Langue",
    "home": "Accueil",
    "error": "Erreur :",
    # La première page
    "home.title": "Le courrier de {name}",
    "home.lead": "Écrivez et lisez vos lettres à <b>{name}</b> avec Thunderbird, ou avec tout autre logiciel "
    "de messagerie.",
    "home.register": "Obtenir une adresse",
    "home.register.open": "Choisissez un nom et un mot de passe, et elle est à vous.",
    "home.register.invitation": "Avec une invitation, choisissez un nom et un mot de passe, et elle est à vous.",
    "home.thunderbird": "Configurer Thunderbird",
    "home.thunderbird.text": "Avec les valeurs de ce serveur, pas à pas.",
    "home.password": "Changer de mot de passe",
    "home.password.text": "L’ancien vous sera demandé.",
    "home.closed": "Les adresses sont attribuées par la personne qui administre ce serveur.",
    # Les formulaires
    "summary": "Il reste quelque chose à corriger.",
    "stale": "Ce formulaire est resté ouvert trop longtemps, ou votre navigateur refuse les cookies de cette page. "
    "Veuillez l’envoyer de nouveau.",
    "name": "Adresse",
    "password": "Mot de passe",
    "password.new": "Nouveau mot de passe",
    "password.old": "Ancien mot de passe",
    "again": "Le nouveau mot de passe, encore une fois",
    "password.again": "Le mot de passe, encore une fois",
    "password.rule": "{shortest} caractères au moins. Quelques mots sans rapport entre eux conviennent bien.",
    "domain": "Domaine",
    "invitation": "Invitation",
    "missing.name": "Veuillez indiquer une adresse.",
    "missing.password": "Veuillez choisir un mot de passe.",
    "missing.again": "Veuillez écrire le mot de passe une seconde fois.",
    "missing.old": "Veuillez indiquer l’ancien mot de passe.",
    "missing.invitation": "Veuillez indiquer le code de votre invitation.",
    "again.differs": "Les deux mots de passe ne sont pas les mêmes.",
    # S’inscrire
    "register.title": "Obtenir une adresse",
    "register.name": "Le nom souhaité",
    "register.name.rule": "Des lettres de a à z, des chiffres et, entre eux, des points, des tirets et des "
    "traits de soulignement.",
    "register.invitation.rule": "Le code que l’on vous a donné.",
    "register.submit": "Obtenir cette adresse",
    "closed.title": "Les adresses ne sont pas attribuées ici",
    "closed.text": "La personne qui administre ce serveur les attribue elle-même. Adressez-vous à elle.",
    "registered.title": "L’adresse est à vous",
    "registered.lead": "<b>{address}</b> peut désormais écrire et recevoir.",
    "registered.lead.nobody": "Elle peut désormais écrire et recevoir.",
    "registered.next": "Il reste à configurer votre logiciel de messagerie.",
    # Son propre mot de passe
    "change.title": "Changer de mot de passe",
    "change.lead": "Pour un compte de ce serveur qui est le vôtre.",
    "change.submit": "Changer le mot de passe",
    "changed.title": "Le mot de passe est changé",
    "changed.lead": "Votre logiciel de messagerie demandera le nouveau la prochaine fois qu’il relèvera ou enverra "
    "du courrier. L’ancien ne vaut plus rien.",
    # Ce qui est refusé
    "no.closed": "Personne ne peut s’inscrire ici.",
    "no.name.form": "Un nom se compose de lettres de a à z, de chiffres et, entre eux, de points, de tirets et de "
    "traits de soulignement.",
    "no.name.reserved": "Ce nom est réservé à l’administration du serveur. Veuillez en choisir un autre.",
    "no.name.domain": "Les adresses de ce serveur se terminent par : {domains}.",
    "no.name.long": "Ce nom est trop long.",
    "no.taken": "Ce nom est déjà pris. Veuillez en choisir un autre.",
    "no.invitation": "Cette invitation n’est pas valable, ou ne l’est plus.",
    "no.password.short": "C’est trop court : un mot de passe a {shortest} caractères au moins.",
    "no.password.long": "C’est trop long : un mot de passe a {longest} octets au plus.",
    "no.password.characters": "Il contient des caractères que les logiciels de messagerie ne savent pas envoyer.",
    "no.password.easy": "C’est trop facile à deviner : un mot courant, votre nom ou une suite de touches.",
    "no.password.same": "C’est l’ancien mot de passe.",
    "no.wrong": "L’adresse et l’ancien mot de passe ne vont pas ensemble.",
    "no.slow": "Il y a eu trop de tentatives depuis l’endroit où vous êtes.",
    "no.slow.locked": "Il y a eu trop de mots de passe erronés.",
    "no.later": "Ce n’est pas possible pour le moment, et rien n’a été changé. Veuillez réessayer plus tard.",
    "again.in.minutes": "Vous pourrez réessayer dans {count} min.",
    "again.in.hours": "Vous pourrez réessayer dans {count} h.",
    "request": "Ce n’est pas le JSON attendu ici.",
    # Thunderbird
    "tb.title": "Configurer Thunderbird",
    "tb.lead": "Il vous faut votre adresse, votre mot de passe et une minute.",
    "tb.you": "vous",
    "tb.nothing": "Ce serveur n’a aucun port que votre logiciel de messagerie puisse utiliser depuis l’endroit "
    "où vous êtes.",
    "tb.trust.title": "Faites accepter ce serveur à Thunderbird",
    "tb.trust.why": "Le serveur se porte garant de lui-même, et aucune autorité connue ne le fait pour lui. "
    "Dites une fois à Thunderbird que cela vous suffit.",
    "tb.trust.download": "Télécharger <b>ca.pem</b>",
    "tb.trust.open": "Dans Thunderbird, ouvrez <b>Paramètres</b>, puis <b>Vie privée et sécurité</b> et, sous "
    "<b>Certificats</b>, <b>Gérer les certificats…</b>",
    "tb.trust.import": "Sous l’onglet <b>Autorités</b>, cliquez sur <b>Importer…</b> et choisissez le fichier "
    "<b>ca.pem</b>.",
    "tb.trust.tick": "Cochez <b>Confirmer cette AC pour identifier des sites web.</b> (les serveurs de courrier en "
    "font partie) et validez.",
    "tb.account.title": "Ajoutez votre compte",
    "tb.account.open": "Ouvrez le menu <b>≡</b>, puis <b>Ajouter un compte</b> et <b>Adresse e-mail</b>. "
    "Un Thunderbird tout neuf l’ouvre de lui-même.",
    "tb.account.name": "Indiquez votre <b>Nom complet</b>, tel que les autres le liront, et votre "
    "<b>Adresse e-mail</b> : <samp>{address}</samp>",
    "tb.account.continue": "Cliquez sur <b>Continuer</b>. Thunderbird trouve les paramètres de ce serveur ; cliquez "
    "sur <b>Continuer</b>.",
    "tb.account.manual": "Cliquez sur <b>Configuration manuelle</b> et reportez les valeurs ci-dessous : d’abord "
    "celles du serveur entrant, puis, après <b>Continuer</b>, celles du serveur sortant.",
    "tb.account.password": "Indiquez votre mot de passe et cliquez sur <b>Continuer</b>.",
    "tb.account.finish": "Cliquez sur <b>Terminer</b>. Écrivez-vous ensuite une première lettre et cliquez sur "
    "<b>Relever</b>.",
    "tb.values.title": "Les valeurs",
    "tb.values.lead": "Pour configurer à la main, Thunderbird ou un autre logiciel.",
    "tb.values.if": "Si Thunderbird ne les trouve pas, ou pour un autre logiciel.",
    "tb.incoming": "Serveur entrant",
    "tb.outgoing": "Serveur sortant",
    "tb.protocol": "Protocole",
    "tb.hostname": "Nom d’hôte",
    "tb.port": "Port",
    "tb.security": "Sécurité de la connexion",
    "tb.method": "Méthode d’authentification",
    "tb.username": "Nom d’utilisateur",
    "tb.SSL": "SSL/TLS",
    "tb.STARTTLS": "STARTTLS",
    "tb.plain": "Aucune",
    "tb.password-cleartext": "Mot de passe normal",
    "tb.none": "Pas d’authentification",
    "tb.here": "Ces valeurs sont celles des logiciels de la machine même du serveur.",
    # Les erreurs
    "e308.title": "Cette page est passée sous clef",
    "e308.text": "On n’y accède que par https.",
    "e400.title": "Ce n’est pas compréhensible",
    "e400.text": "Ce que votre navigateur a envoyé n’a pas de sens ici. Veuillez recommencer depuis l’accueil.",
    "e403.title": "Cela vient d’ailleurs",
    "e403.text": "Un autre site a demandé cet envoi à votre navigateur. Rien n’a été fait. Veuillez passer par "
    "notre propre page.",
    "e404.title": "Cette page n’existe pas",
    "e404.text": "Le lien est ancien, ou l’adresse contient une faute.",
    "e405.title": "Cette page ne sait pas faire cela",
    "e405.text": "Elle ne peut être que consultée. Veuillez recommencer depuis l’accueil.",
    "e408.title": "Cela a pris trop de temps",
    "e408.text": "Votre demande n’est pas arrivée entière à temps. Veuillez réessayer.",
    "e413.title": "C’est trop",
    "e413.text": "L’envoi dépasse ce que peut contenir n’importe lequel de nos formulaires. Rien n’a été fait.",
    "e415.title": "Ce n’est pas un de nos formulaires",
    "e415.text": "L’envoi a été fait d’une façon inconnue ici. Rien n’a été fait.",
    "e421.title": "C’est un autre serveur",
    "e421.text": "Il ne connaît pas le nom que vous avez suivi jusqu’ici. Utilisez celui du domaine de votre courrier.",
    "e431.title": "C’est trop",
    "e431.text": "Ce que votre navigateur dit avant la demande même est trop long. Supprimer ses cookies pour ce "
    "serveur peut aider.",
    "e500.title": "C’est notre faute",
    "e500.text": "Quelque chose a échoué ici et a été noté. Veuillez réessayer plus tard.",
    "e.home": "Retour à l’accueil",
}

# No line breaks before a sign of two parts; and the space there is narrow, but before a colon.
_SPACES = {" :": "\N{NO-BREAK SPACE}:"} | {f" {sign}": f"\N{NARROW NO-BREAK SPACE}{sign}" for sign in ";!?"}


def _spaced(text: str) -> str:
    for typed, printed in _SPACES.items():
        text = text.replace(typed, printed)
    return text


WORDS = {name: _spaced(text) for name, text in _TEXT.items()}
