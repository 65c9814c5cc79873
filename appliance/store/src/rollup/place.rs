//! Locations by number.

use crate::error::Fault;
use crate::layout::{PLACE_UNKNOWN, encode_place, folded_text, parse_u32};
use crate::tables::Tables;
use glacis_control::scan_query::Location;
use heed::RwTxn;

/// Different locations that are kept. Beyond it a new one is kept as its country alone,
const PLACES_MAX: u64 = 65_536;
/// for which so many more are set aside; a source beyond that has no location.
const COUNTRIES_MAX: u64 = 512;

/// The number of a location; it gets one when it has none.
pub(super) fn id_of(tables: &Tables, txn: &mut RwTxn<'_>, location: &Location) -> Result<u32, Fault> {
    if location.is_empty() {
        return Ok(PLACE_UNKNOWN);
    }
    if let Some(id) = find_or_add(tables, txn, location, PLACES_MAX)? {
        return Ok(id);
    }
    let country = Location {
        country_code: location.country_code.clone(),
        country: location.country.clone(),
        ..Location::default()
    };
    Ok(find_or_add(tables, txn, &country, PLACES_MAX + COUNTRIES_MAX)?.unwrap_or(PLACE_UNKNOWN))
}

fn find_or_add(
    tables: &Tables,
    txn: &mut RwTxn<'_>,
    location: &Location,
    places_max: u64,
) -> Result<Option<u32>, Fault> {
    let bytes = encode_place(location);
    if let Some(id) = tables.place_ids.get(txn, &bytes)? {
        return Ok(Some(parse_u32("the number of a place", id)?));
    }
    let places = tables.places.len(txn)?;
    if places >= places_max {
        return Ok(None);
    }
    // Numbers begin with 1 and have no gaps: places go only all together.
    let id = places as u32 + 1;
    let mut value = Vec::with_capacity(2 * bytes.len());
    value.extend((bytes.len() as u16).to_be_bytes());
    value.extend(&bytes);
    value.extend(folded_text(location).into_bytes());
    tables.places.put(txn, &id.to_be_bytes(), &value)?;
    tables.place_ids.put(txn, &bytes, &id.to_be_bytes())?;
    Ok(Some(id))
}
