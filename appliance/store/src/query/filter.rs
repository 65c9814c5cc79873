//! What a filter asks for, in the terms of the store.

use crate::error::Fault;
use crate::layout::{Fields, Target};
use crate::tables::Tables;
use glacis_control::Protocol;
use glacis_control::scan_query::ScanFilter;
use heed::RoTxn;
use ipnet::{IpNet, Ipv6Net};
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(super) const ALL_SOURCES: (IpAddr, IpAddr) =
    (IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::from_bits(u128::MAX)));

/// Sources that pass lie between `low` and `high`, and satisfy the rest.
pub(super) struct Criteria {
    pub low: IpAddr,
    pub high: IpAddr,
    pub text: AddressText,
    pub port: Option<u16>,
    pub protocol: Option<Protocol>,
    /// Ascending; `None` is any.
    pub places: Option<Vec<u32>>,
}

/// What the written form of an address must be like.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum AddressText {
    Any,
    Begins(String),
    Contains(String),
}

impl Criteria {
    pub fn of(tables: &Tables, txn: &RoTxn<'_>, filter: &ScanFilter) -> Result<Self, Fault> {
        let ((low, high), text) = addresses(&filter.address.trim().to_lowercase());
        let places = match filter.location.trim() {
            "" => None,
            text => Some(places(tables, txn, &text.to_lowercase())?),
        };
        Ok(Self { low, high, text, port: filter.port, protocol: filter.protocol, places })
    }

    pub fn takes_source(&self, source: IpAddr, scratch: &mut String) -> bool {
        scratch.clear();
        match &self.text {
            AddressText::Any => true,
            // Writing into a string does not fail.
            AddressText::Begins(text) => write!(scratch, "{source}").is_ok() && scratch.starts_with(text),
            AddressText::Contains(text) => write!(scratch, "{source}").is_ok() && scratch.contains(text),
        }
    }

    pub fn takes_place(&self, place: u32) -> bool {
        self.places.as_ref().is_none_or(|places| places.binary_search(&place).is_ok())
    }

    /// The targets whose indexes hold all that passes, when a port is asked for.
    pub fn targets(&self) -> Option<Vec<Target>> {
        let port = self.port?;
        let protocols = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
        let wanted =
            protocols.into_iter().filter(|protocol| self.protocol.is_none_or(|only| only == *protocol));
        Some(wanted.map(|protocol| Target { protocol, port }).collect())
    }
}

/// A whole address or a prefix length asks for just that; text that ends with a dot or a colon stands at the beginning;
/// other text may stand anywhere.
fn addresses(text: &str) -> ((IpAddr, IpAddr), AddressText) {
    if text.is_empty() {
        return (ALL_SOURCES, AddressText::Any);
    }
    if let Some(net) = begins_with(text) {
        return ((net.network(), net.broadcast()), AddressText::Begins(text.to_owned()));
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return ((address, address), AddressText::Any);
    }
    if let Ok(net) = text.parse::<IpNet>() {
        return ((net.network(), net.broadcast()), AddressText::Any);
    }
    (ALL_SOURCES, AddressText::Contains(text.to_owned()))
}

/// The prefix whose addresses may be written with this beginning; `None` unless it ends with whole octets or groups.
fn begins_with(text: &str) -> Option<IpNet> {
    if let Some(octets) = text.strip_suffix('.') {
        let octets: Vec<u8> = octets.split('.').map(|octet| octet.parse().ok()).collect::<Option<_>>()?;
        let mut address = [0; 4];
        address.get_mut(..octets.len()).filter(|_| octets.len() < 4)?.copy_from_slice(&octets);
        return IpNet::new(address.into(), 8 * octets.len() as u8).ok();
    }
    let groups = text.strip_suffix(':')?;
    // What follows a double colon has lost its place.
    let groups = groups.strip_suffix(':').unwrap_or(groups);
    let groups: Vec<u16> =
        groups.split(':').map(|group| u16::from_str_radix(group, 16).ok()).collect::<Option<_>>()?;
    let mut address = [0; 8];
    address.get_mut(..groups.len()).filter(|_| groups.len() < 8)?.copy_from_slice(&groups);
    Ipv6Net::new(address.into(), 16 * groups.len() as u8).ok().map(IpNet::from)
}

/// Places with the text in one of their names; bounded by the number of places that are kept.
fn places(tables: &Tables, txn: &RoTxn<'_>, text: &str) -> Result<Vec<u32>, Fault> {
    let mut found = Vec::new();
    for entry in tables.places.iter(txn)? {
        let (key, value) = entry?;
        let mut fields = Fields::of("a place", value);
        let length = fields.u16()?;
        fields.bytes(length.into())?;
        let folded = str::from_utf8(fields.rest()).unwrap_or_default();
        if folded.contains(text) {
            found.push(crate::layout::parse_u32("the number of a place", key)?);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a23_whole_octets_and_groups_are_ranges_and_other_text_may_stand_anywhere() {
        let range = |low: &str, high: &str| (low.parse().unwrap(), high.parse().unwrap());
        let begins = |text: &str| AddressText::Begins(text.to_owned());
        for (text, sources, expected) in [
            ("", ALL_SOURCES, AddressText::Any),
            ("192.0.2.1", range("192.0.2.1", "192.0.2.1"), AddressText::Any),
            ("::1", range("::1", "::1"), AddressText::Any),
            ("192.0.2.0/24", range("192.0.2.0", "192.0.2.255"), AddressText::Any),
            ("192.0.", range("192.0.0.0", "192.0.255.255"), begins("192.0.")),
            ("2001:db8:", range("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"), begins("2001:db8:")),
            ("fe80::", range("fe80::", "fe80:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), begins("fe80::")),
            ("::", range("::", "::"), AddressText::Any),
            ("192.0", ALL_SOURCES, AddressText::Contains("192.0".into())),
            (".2.", ALL_SOURCES, AddressText::Contains(".2.".into())),
            ("1.2.3.4.", ALL_SOURCES, AddressText::Contains("1.2.3.4.".into())),
            ("256.", ALL_SOURCES, AddressText::Contains("256.".into())),
            (":db8:", ALL_SOURCES, AddressText::Contains(":db8:".into())),
        ] {
            assert_eq!(addresses(text), (sources, expected), "{text}");
        }
    }
}
