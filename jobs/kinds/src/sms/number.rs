//! Telephone numbers that take text messages.

use phonenumber::{Mode, PhoneNumber, Type, metadata::DATABASE};

/// Says whether a text is the number of a mobile telephone in the form of E.164: `+`, the country, the rest, and nothing
/// between. Where a country gives mobile and fixed lines the same numbers, such as the United States, it may be either. The
/// numbering plans are those of libphonenumber.
///
/// # Errors
/// What is wrong with it, in words.
pub fn mobile_number(text: &str) -> Result<(), &'static str> {
    let is_form = text.strip_prefix('+').is_some_and(|digits| {
        (7..=15).contains(&digits.len()) && digits.bytes().all(|c| c.is_ascii_digit()) && !digits.starts_with('0')
    });
    if !is_form {
        return Err("must be a number in the form of E.164: + and up to 15 digits, such as +33612345678");
    }
    let number: PhoneNumber = text.parse().map_err(|_| NO_NUMBER)?;
    // A national prefix that was left standing, such as the 0 of +33 06, is read over.
    if !number.is_valid() || number.format().mode(Mode::E164).to_string() != text {
        return Err(NO_NUMBER);
    }
    match number.number_type(&DATABASE) {
        Type::Mobile | Type::FixedLineOrMobile => Ok(()),
        Type::FixedLine => Err("is a fixed line, which takes no text messages (not_mobile)"),
        _ => Err("is not the number of a mobile telephone (not_mobile)"),
    }
}

const NO_NUMBER: &str = "is not a number that its country gives out (invalid_number)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mobile_telephones_are_told_from_fixed_lines() {
        for mobile in ["+33612345678", "+33756789012", "+4915123456789", "+447400123456", "+12015550123"] {
            assert_eq!(mobile_number(mobile), Ok(()), "{mobile}");
        }
        for fixed in ["+33123456789", "+33523456789", "+33912345678", "+493012345678", "+33800123456"] {
            assert!(mobile_number(fixed).unwrap_err().contains("not_mobile"), "{fixed}");
        }
        for none in ["+3361234567", "+336123456789", "+330612345678", "+99912345678"] {
            assert_eq!(mobile_number(none), Err(NO_NUMBER), "{none}");
        }
        for other in ["", "+", "0612345678", "+33 612345678", "+0612345678", "33612345678", "+3361234567890123", "+x"] {
            assert!(mobile_number(other).unwrap_err().contains("E.164"), "{other}");
        }
    }
}
