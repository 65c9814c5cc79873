//! Codes of countries: one that no database has would silently match nobody.

use crate::parse::decode::Scalar;
use crate::report::Problem;

/// ISO 3166-1 alpha-2 as of 2024, and `XK` for Kosovo, as the databases have it. Ascending.
const CODES: &[&str] = &[
    "AD", "AE", "AF", "AG", "AI", "AL", "AM", "AO", "AQ", "AR", "AS", "AT", "AU", "AW", "AX", "AZ", "BA",
    "BB", "BD", "BE", "BF", "BG", "BH", "BI", "BJ", "BL", "BM", "BN", "BO", "BQ", "BR", "BS", "BT", "BV",
    "BW", "BY", "BZ", "CA", "CC", "CD", "CF", "CG", "CH", "CI", "CK", "CL", "CM", "CN", "CO", "CR", "CU",
    "CV", "CW", "CX", "CY", "CZ", "DE", "DJ", "DK", "DM", "DO", "DZ", "EC", "EE", "EG", "EH", "ER", "ES",
    "ET", "FI", "FJ", "FK", "FM", "FO", "FR", "GA", "GB", "GD", "GE", "GF", "GG", "GH", "GI", "GL", "GM",
    "GN", "GP", "GQ", "GR", "GS", "GT", "GU", "GW", "GY", "HK", "HM", "HN", "HR", "HT", "HU", "ID", "IE",
    "IL", "IM", "IN", "IO", "IQ", "IR", "IS", "IT", "JE", "JM", "JO", "JP", "KE", "KG", "KH", "KI", "KM",
    "KN", "KP", "KR", "KW", "KY", "KZ", "LA", "LB", "LC", "LI", "LK", "LR", "LS", "LT", "LU", "LV", "LY",
    "MA", "MC", "MD", "ME", "MF", "MG", "MH", "MK", "ML", "MM", "MN", "MO", "MP", "MQ", "MR", "MS", "MT",
    "MU", "MV", "MW", "MX", "MY", "MZ", "NA", "NC", "NE", "NF", "NG", "NI", "NL", "NO", "NP", "NR", "NU",
    "NZ", "OM", "PA", "PE", "PF", "PG", "PH", "PK", "PL", "PM", "PN", "PR", "PS", "PT", "PW", "PY", "QA",
    "RE", "RO", "RS", "RU", "RW", "SA", "SB", "SC", "SD", "SE", "SG", "SH", "SI", "SJ", "SK", "SL", "SM",
    "SN", "SO", "SR", "SS", "ST", "SV", "SX", "SY", "SZ", "TC", "TD", "TF", "TG", "TH", "TJ", "TK", "TL",
    "TM", "TN", "TO", "TR", "TT", "TV", "TW", "TZ", "UA", "UG", "UM", "US", "UY", "UZ", "VA", "VC", "VE",
    "VG", "VI", "VN", "VU", "WF", "WS", "XK", "YE", "YT", "ZA", "ZM", "ZW",
];

/// What people write for the United Kingdom, and ISO reserves without assigning it.
const UK: &str = "UK";

/// `"DE"`.
pub(super) fn code(scalar: &Scalar<'_>) -> Result<String, Problem> {
    let wanted = "the code of a country such as \"DE\"";
    let text = scalar.text(wanted)?;
    if CODES.binary_search(&text).is_ok() {
        return Ok(text.to_owned());
    }
    let upper = text.to_ascii_uppercase();
    let hint = if upper == UK {
        "the code of the United Kingdom is \"GB\"".to_owned()
    } else if CODES.binary_search(&upper.as_str()).is_ok() {
        format!("write \"{upper}\"")
    } else {
        "two capital letters, as in ISO 3166-1; for several countries repeat the node".to_owned()
    };
    Err(scalar.wrong(wanted).hint(hint))
}

#[cfg(test)]
mod tests {
    use super::CODES;

    #[test]
    fn codes_are_ascending_pairs_of_capitals() {
        assert_eq!(CODES.len(), 250);
        assert!(CODES.is_sorted_by(|a, b| a < b));
        assert!(CODES.iter().all(|code| code.len() == 2 && code.bytes().all(|b| b.is_ascii_uppercase())));
    }
}
