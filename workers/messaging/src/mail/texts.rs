//! What the platform says to its people, in English and in French.

use fourmi_kinds::Notice;
use fourmi_model::Language;
use jiff::{Timestamp, tz::TimeZone};

/// A mail in a language.
pub(super) struct Said {
    subject: &'static str,
    /// What has happened, or is to be done. A link stands after it.
    body: &'static str,
    /// What to do if one has not asked for it.
    otherwise: &'static str,
}

/// What a notice says.
pub(super) const fn of(notice: Notice, language: Language) -> Said {
    match language {
        Language::English => english(notice),
        Language::French => french(notice),
    }
}

/// The subject, with whoever writes.
pub(super) fn subject(said: &Said, sender: &str) -> String {
    format!("{sender}: {}", said.subject)
}

/// The mail as plain text.
pub(super) fn letter(
    said: &Said,
    language: Language,
    name: Option<&str>,
    sender: &str,
    link: Option<&str>,
    expires: Option<Timestamp>,
) -> String {
    let greeting = match (language, name) {
        (Language::English, Some(name)) => format!("Hello {name},"),
        (Language::English, None) => "Hello,".to_owned(),
        (Language::French, Some(name)) => format!("Bonjour {name},"),
        (Language::French, None) => "Bonjour,".to_owned(),
    };
    let mut parts = vec![greeting, said.body.to_owned()];
    parts.extend(link.map(str::to_owned));
    parts.extend(expires.map(|expires| until(language, expires)));
    parts.push(said.otherwise.to_owned());
    parts.push(sender.to_owned());
    parts.join("\n\n") + "\n"
}

fn until(language: Language, expires: Timestamp) -> String {
    let time = expires.to_zoned(TimeZone::UTC);
    match language {
        Language::English => format!("The link works once, until {}.", time.strftime("%Y-%m-%d %H:%M UTC")),
        Language::French => {
            format!("Ce lien fonctionne une seule fois, jusqu’au {}.", time.strftime("%d/%m/%Y à %H:%M UTC"))
        }
    }
}

const fn english(notice: Notice) -> Said {
    let nothing = "If you have not asked for this, you need not do anything.";
    let alarm = "If that was not you, choose a new password at once, and tell whoever runs the app.";
    let (subject, body, otherwise) = match notice {
        Notice::ConfirmEmail => {
            ("confirm your e-mail address", "Please open this link to confirm that this address is yours:", nothing)
        }
        Notice::ResetPassword => ("choose a new password", "By this link you choose a new password:", nothing),
        Notice::Invitation => (
            "you are invited",
            "An account was made for you. By this link you choose your password and take it over:",
            "If you do not know why, you need not do anything.",
        ),
        Notice::AlreadyRegistered => (
            "you have an account already",
            "Somebody wanted to make an account with this address, which has one already. If you have forgotten your \
             password, ask for a new one where you log in.",
            nothing,
        ),
        Notice::PasswordChanged => ("your password was changed", "The password of your account was changed.", alarm),
        Notice::EmailChanged => (
            "your e-mail address was changed",
            "Your account has another e-mail address now; this one belongs to it no longer.",
            alarm,
        ),
        Notice::SecondFactorChanged => {
            ("your second factor was changed", "The second factor of your account was switched on or off.", alarm)
        }
        Notice::SessionsEnded => ("you were logged out", "You were logged out everywhere.", alarm),
        Notice::WebhookDisabled => (
            "a webhook was disabled",
            "A webhook of yours gets no messages any more: its address has refused them for good, or has taken none for \
             days. Once it works, enable the webhook and have what was missed sent again.",
            "If you need it no longer, delete it.",
        ),
    };
    Said { subject, body, otherwise }
}

const fn french(notice: Notice) -> Said {
    let nothing = "Si vous n’avez rien demandé, vous n’avez rien à faire.";
    let alarm = "Si ce n’était pas vous, choisissez tout de suite un nouveau mot de passe et prévenez les responsables de \
                 l’application.";
    let (subject, body, otherwise) = match notice {
        Notice::ConfirmEmail => (
            "confirmez votre adresse e-mail",
            "Ouvrez ce lien pour confirmer que cette adresse est bien la vôtre :",
            nothing,
        ),
        Notice::ResetPassword => {
            ("choisissez un nouveau mot de passe", "Ce lien vous permet de choisir un nouveau mot de passe :", nothing)
        }
        Notice::Invitation => (
            "vous êtes invité(e)",
            "Un compte a été créé pour vous. Ce lien vous permet de choisir votre mot de passe et d’y accéder :",
            "Si vous ne savez pas pourquoi, vous n’avez rien à faire.",
        ),
        Notice::AlreadyRegistered => (
            "vous avez déjà un compte",
            "Quelqu’un a voulu créer un compte avec cette adresse, qui en a déjà un. Si vous avez oublié votre mot de \
             passe, demandez-en un nouveau sur la page de connexion.",
            nothing,
        ),
        Notice::PasswordChanged => {
            ("votre mot de passe a été changé", "Le mot de passe de votre compte a été changé.", alarm)
        }
        Notice::EmailChanged => (
            "votre adresse e-mail a été changée",
            "Votre compte a maintenant une autre adresse e-mail ; celle-ci ne lui appartient plus.",
            alarm,
        ),
        Notice::SecondFactorChanged => {
            ("votre second facteur a été changé", "Le second facteur de votre compte a été activé ou désactivé.", alarm)
        }
        Notice::SessionsEnded => ("vous avez été déconnecté(e)", "Vous avez été déconnecté(e) partout.", alarm),
        Notice::WebhookDisabled => (
            "un webhook a été désactivé",
            "Un de vos webhooks ne reçoit plus de messages : son adresse les a refusés définitivement, ou n’en a accepté \
             aucun depuis des jours. Quand elle fonctionnera, réactivez le webhook et faites renvoyer ce qui a manqué.",
            "Si vous n’en avez plus besoin, supprimez-le.",
        ),
    };
    Said { subject, body, otherwise }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_says_what_to_do_and_until_when() {
        let expires = "2026-12-01T08:30:00Z".parse().ok();
        let link = Some("https://app.example.org/reset-password?token=x");
        let said = of(Notice::ResetPassword, Language::French);
        let french = letter(&said, Language::French, Some("Ada"), "Acme", link, expires);
        assert!(french.starts_with("Bonjour Ada,\n\n") && french.contains("\n\nhttps://app.example.org/"), "{french}");
        assert!(french.contains("jusqu’au 01/12/2026 à 08:30 UTC") && french.ends_with("\n\nAcme\n"), "{french}");
        assert_eq!(subject(&said, "Acme"), "Acme: choisissez un nouveau mot de passe");
        let english =
            letter(&of(Notice::SessionsEnded, Language::English), Language::English, None, "Fourmi", None, None);
        assert!(english.starts_with("Hello,\n\nYou were logged out everywhere.\n\nIf that was not you"), "{english}");
    }
}
