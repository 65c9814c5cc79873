//! Locations, each stored once.

use super::{Fields, RecordError};
use glacis_control::scan_query::Location;

/// The place of a source whose location is not known; no record has this id.
pub const PLACE_UNKNOWN: u32 = 0;
/// Of each text, so that an encoded location is a key (at most 511 bytes).
const TEXT_BYTES_MAX: usize = 120;

/// A location as a key.
pub type PlaceBytes = Vec<u8>;

/// Country code (u8 length, text), then country, region, city and provider likewise, then the AS number (u32). A text
/// of more than 120 bytes is cut.
pub fn encode_place(location: &Location) -> PlaceBytes {
    let mut bytes = Vec::with_capacity(64);
    for text in texts(location) {
        let text = &text[..text.floor_char_boundary(TEXT_BYTES_MAX)];
        bytes.push(text.len() as u8);
        bytes.extend(text.as_bytes());
    }
    bytes.extend(location.asn.to_be_bytes());
    bytes
}

pub fn parse_place(bytes: &[u8]) -> Result<Location, RecordError> {
    let mut fields = Fields::of("a place", bytes);
    let mut text = || -> Result<String, RecordError> {
        let length = fields.u8()?;
        let text = std::str::from_utf8(fields.bytes(length.into())?);
        text.map(str::to_owned).map_err(|_| fields.wrong("broken text of length", length.into()))
    };
    let (country_code, country, region, city, isp) = (text()?, text()?, text()?, text()?, text()?);
    let asn = fields.u32()?;
    fields.end()?;
    Ok(Location { country_code, country, region, city, isp, asn })
}

/// What a search looks into: all texts in lower case, a line for each.
pub fn folded_text(location: &Location) -> String {
    texts(location).map(str::to_lowercase).join("\n")
}

fn texts(location: &Location) -> [&str; 5] {
    let Location { country_code, country, region, city, isp, asn: _ } = location;
    [country_code, country, region, city, isp]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_survives_its_bytes_and_long_names_are_cut_between_characters() {
        let isp = "ü".repeat(300);
        let location = Location {
            country_code: "FR".into(),
            country: "France".into(),
            region: "Île-de-France".into(),
            city: String::new(),
            isp,
            asn: 64_496,
        };
        let bytes = encode_place(&location);
        assert!(bytes.len() <= 511);
        let read = parse_place(&bytes).unwrap();
        assert_eq!(read, Location { isp: "ü".repeat(60), ..location.clone() });
        assert_eq!(encode_place(&read), bytes);
        assert!(folded_text(&location).contains("île-de-france"));
        for end in 0..bytes.len() {
            assert!(parse_place(&bytes[..end]).is_err());
        }
    }
}
