//! Names that people give: each is brought into one form, in which it is kept and compared, or refused with a reason.

use idna::{
    AsciiDenyList,
    uts46::{DnsLength, Hyphens, Uts46},
};

/// The longest address that can be written to (RFC 5321).
const EMAIL_BYTES: usize = 254;
const LOCAL_BYTES: usize = 64;

/// Letters of a user name.
const USERNAME: std::ops::RangeInclusive<usize> = 3..=32;

/// Characters of what a person is called.
const NAME: usize = 100;

/// An e-mail address as it is kept: in lower case, its domain as DNS has it, so that no two look the same and differ.
///
/// # Errors
/// If it is none that we write to; the text says why.
pub(crate) fn normal_email(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.len() > EMAIL_BYTES {
        return Err(format!("An e-mail address has {EMAIL_BYTES} characters at most."));
    }
    let Some((local, domain)) = text.split_once('@').filter(|(_, domain)| !domain.contains('@')) else {
        return Err("An e-mail address has one @, as in ana@example.org.".to_owned());
    };
    let email = format!("{}@{}", normal_local(local)?, normal_domain(domain)?);
    // A domain may be longer in ASCII.
    if email.len() > EMAIL_BYTES {
        return Err(format!("An e-mail address has {EMAIL_BYTES} characters at most."));
    }
    Ok(email)
}

/// What stands before the @: words of ASCII with dots between them (`dot-atom` of RFC 5322).
fn normal_local(local: &str) -> Result<String, String> {
    if local.is_empty() || local.len() > LOCAL_BYTES {
        return Err(format!("There must be 1 to {LOCAL_BYTES} characters before the @."));
    }
    let known = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c);
    if let Some(strange) = local.chars().find(|c| !known(*c)) {
        return Err(if strange.is_ascii() {
            "Only letters, digits and signs such as . _ + - can stand before the @.".to_owned()
        } else {
            "Only letters without accents, of the Latin alphabet, can stand before the @.".to_owned()
        });
    }
    if local.split('.').any(str::is_empty) {
        return Err("Before the @, dots must stand between other characters.".to_owned());
    }
    Ok(local.to_ascii_lowercase())
}

/// What stands after the @, as DNS has it (IDNA by UTS 46): look-alikes of other alphabets show as `xn--…`.
fn normal_domain(domain: &str) -> Result<String, String> {
    let ascii = Uts46::new()
        .to_ascii(domain.as_bytes(), AsciiDenyList::STD3, Hyphens::CheckFirstLast, DnsLength::Verify)
        .map_err(|_| "After the @ there must be a domain, as in ana@example.org.".to_owned())?;
    let Some((_, top)) = ascii.rsplit_once('.') else {
        return Err("The domain after the @ must have a dot in it, as in ana@example.org.".to_owned());
    };
    // No top level domain begins with a digit; addresses (`127.0.0.1`, `0x7f.1`) end with a number.
    if top.starts_with(|c: char| c.is_ascii_digit()) {
        return Err("After the @ there must be a domain, not an IP address.".to_owned());
    }
    Ok(ascii.into_owned())
}

/// A user name as it is kept: in lower case, and never like an e-mail address.
///
/// # Errors
/// If it cannot be one; the text says why.
pub(crate) fn normal_username(text: &str) -> Result<String, String> {
    // Other alphabets are refused before they are lower-cased: the Kelvin sign would become a k.
    let name = text.trim().to_ascii_lowercase();
    let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    if !name.chars().all(known) {
        Err("A user name has only letters from a to z, digits, and . _ - in it.".to_owned())
    } else if !USERNAME.contains(&name.len()) {
        Err(format!("A user name has {} to {} characters.", USERNAME.start(), USERNAME.end()))
    } else if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        Err("A user name begins with a letter.".to_owned())
    } else {
        Ok(name)
    }
}

/// Whether a person may be called that: anything that can be read and stays in its line.
///
/// # Errors
/// If not; the text says why.
pub(crate) fn check_name(text: &str) -> Result<(), String> {
    let length = text.chars().take(NAME + 1).count();
    if text.trim().is_empty() || length > NAME {
        return Err(format!("A name has 1 to {NAME} characters."));
    }
    if text.chars().any(is_unreadable) {
        return Err("A name has no line breaks and no signs that cannot be seen.".to_owned());
    }
    Ok(())
}

/// Control characters, separators of lines and paragraphs, and what turns the direction of writing around.
fn is_unreadable(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_address_has_one_form() {
        for (text, normal) in [
            (" Ana.Lopez+jobs@Example.ORG\n", "ana.lopez+jobs@example.org"),
            ("a@b.cd", "a@b.cd"),
            ("o'neil/x=y@sub.example.co.uk", "o'neil/x=y@sub.example.co.uk"),
            ("ana@bücher.example", "ana@xn--bcher-kva.example"),
            ("ana@BÜCHER.example", "ana@xn--bcher-kva.example"),
            ("ana@bu\u{308}cher.example", "ana@xn--bcher-kva.example"),
            ("ana@xn--bcher-kva.example", "ana@xn--bcher-kva.example"),
            ("ana@ｅｘａｍｐｌｅ．ｏｒｇ", "ana@example.org"),
            ("ana@example。org", "ana@example.org"),
            // The first letter is Cyrillic: it does not pass for another domain.
            ("ana@\u{435}xample.org", "ana@xn--xample-2of.org"),
        ] {
            assert_eq!(normal_email(text).as_deref(), Ok(normal), "{text}");
            assert_eq!(normal_email(normal).as_deref(), Ok(normal), "{normal}");
        }
        let longest = format!("{}@{}.org", "a".repeat(64), ["b".repeat(63), "c".repeat(63), "d".repeat(57)].join("."));
        assert_eq!(normal_email(&longest).as_deref(), Ok(longest.as_str()));
    }

    #[test]
    fn what_is_no_address_is_refused_with_a_reason() {
        for (text, reason) in [
            ("", "one @"),
            ("ana", "one @"),
            ("ana@b@example.org", "one @"),
            ("@example.org", "before the @"),
            (&*format!("{}@example.org", "a".repeat(65)), "64 characters"),
            (&format!("{}@{}.org", "a".repeat(64), vec!["b".repeat(63); 3].join(".")), "254 characters"),
            (&format!("a@{}.org", "ü".repeat(120)), "domain"),
            (&"a".repeat(1_000_000), "254 characters"),
            ("a@b.c\r\nBcc: x", "domain"),
            ("a\r\nBcc: x@b.cd", "before the @"),
            ("a\0@b.cd", "before the @"),
            ("a@b\0.cd", "domain"),
            ("a b@c.de", "before the @"),
            ("a@b .cd", "domain"),
            ("\"a b\"@c.de", "before the @"),
            ("a(x)@b.cd", "before the @"),
            ("<a@b.cd>", "before the @"),
            ("a,b@c.de", "before the @"),
            (".a@b.cd", "dots"),
            ("a..b@c.de", "dots"),
            ("a.@c.de", "dots"),
            ("\u{430}na@example.org", "Latin"),
            ("ａna@example.org", "Latin"),
            ("josé@example.org", "Latin"),
            ("a\u{200B}@example.org", "Latin"),
            ("a\u{202E}@example.org", "Latin"),
            ("a@localhost", "dot"),
            ("a@", "domain"),
            ("a@.", "domain"),
            ("a@.org", "domain"),
            ("a@example.org.", "domain"),
            ("a@example..org", "domain"),
            ("a@-example.org", "domain"),
            ("a@exa_mple.org", "domain"),
            ("a@exam\u{202E}ple.org", "domain"),
            ("a@127.0.0.1", "IP address"),
            ("a@１２７.0.0.1", "IP address"),
            ("a@0x7f.0x1", "IP address"),
            ("a@[127.0.0.1]", "domain"),
            ("a@[IPv6:::1]", "domain"),
            ("a@xn--a.org", "domain"),
        ] {
            let refused = normal_email(text).unwrap_err();
            assert!(refused.contains(reason), "{text:?}: {refused}");
        }
    }

    #[test]
    fn a_user_name_has_one_form() {
        for (text, normal) in
            [("Ana", "ana"), (" ana.lopez_2-x ", "ana.lopez_2-x"), (&*"a".repeat(32), &*"a".repeat(32))]
        {
            assert_eq!(normal_username(text).as_deref(), Ok(normal));
        }
        for (text, reason) in [
            ("", "3 to 32"),
            ("ab", "3 to 32"),
            (&*"a".repeat(33), "3 to 32"),
            ("1ana", "begins"),
            (".ana", "begins"),
            ("-ana", "begins"),
            ("ana@b.cd", "only letters"),
            ("ana lopez", "only letters"),
            ("an\u{430}", "only letters"),
            ("\u{212A}ate", "only letters"),
            ("ａna", "only letters"),
            ("ana\0", "only letters"),
            ("ana\r\nx", "only letters"),
        ] {
            let refused = normal_username(text).unwrap_err();
            assert!(refused.contains(reason), "{text:?}: {refused}");
        }
    }

    #[test]
    fn a_name_stays_in_its_line() {
        for good in ["A", "Ana María López", "李小龍", "O'Neil-Smith, Jr.", "ليلى", &"é".repeat(100)] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        for (text, reason) in [
            ("", "1 to 100"),
            ("  ", "1 to 100"),
            (&*"é".repeat(101), "1 to 100"),
            (&"a".repeat(1_000_000), "1 to 100"),
            ("Ana\r\nBcc: x", "line breaks"),
            ("Ana\0", "line breaks"),
            ("Ana\u{85}", "line breaks"),
            ("Ana\u{2028}x", "line breaks"),
            ("Ana\u{202E}nimda", "line breaks"),
            ("\u{2066}Ana\u{2069}", "line breaks"),
            ("Ana\u{1b}[31m", "line breaks"),
        ] {
            let refused = check_name(text).unwrap_err();
            assert!(refused.contains(reason), "{text:?}: {refused}");
        }
    }

    proptest! {
        #[test]
        fn what_is_taken_is_plain_and_stays_as_it_is(
            text in ".{0,20}@?.{0,20}",
            local in "[a-zA-Z0-9.+]{1,10}",
            domain in "\\PC{1,20}\\.[a-z]{2,3}",
        ) {
            let is_plain = |c: char| c.is_ascii_graphic() && !c.is_ascii_uppercase();
            for text in [text, format!("{local}@{domain}")] {
                if let Ok(email) = normal_email(&text) {
                    prop_assert!(email.chars().all(is_plain), "{}", email);
                    prop_assert_eq!(normal_email(&email), Ok(email.clone()));
                }
                if let Ok(name) = normal_username(&text) {
                    prop_assert_eq!(normal_username(&name), Ok(name.clone()));
                }
            }
        }
    }
}
