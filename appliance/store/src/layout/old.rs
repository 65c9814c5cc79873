//! Records of layout 1, which the upgrade reads.

use super::{Fields, RecordError, ScanKey, Tally, Target};
use glacis_control::{Day, ProbeKind, ProbeKinds, Protocol};
use std::net::Ipv6Addr;

/// `scans` of layout 1: day u32, address as IPv6 (IPv4-mapped), protocol u8, port u16; hits u64, first u32, last u32.
///
/// That layout knew no kinds, and nothing but SYNs and datagrams was recorded.
pub(crate) fn parse_old_scan(key: &[u8], value: &[u8]) -> Result<(ScanKey, Tally), RecordError> {
    let mut fields = Fields::of("the key of a scan of layout 1", key);
    let day = Day(fields.u32()?);
    let source = Ipv6Addr::from(fields.array::<16>()?).to_canonical();
    let number = fields.u8()?;
    let protocol = Protocol::from_number(number).ok_or_else(|| fields.wrong("protocol", number.into()))?;
    let target = Target { protocol, port: fields.u16()? };
    fields.end()?;
    let kind = if protocol == Protocol::Udp { ProbeKind::Datagram } else { ProbeKind::Syn };
    let mut fields = Fields::of("a scan of layout 1", value);
    let (hits, first_ms, last_ms) = (fields.u64()?, fields.u32()?, fields.u32()?);
    fields.end()?;
    let tally = Tally { hits, first_ms, last_ms, kinds: ProbeKinds::of(kind) };
    Ok((ScanKey { day, source, target }, tally))
}
