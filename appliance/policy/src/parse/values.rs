//! Reading single values: ports, addresses, durations, words out of a table.

use super::decode::{Scalar, list};
use super::suggest::did_you_mean;
use crate::model::{AddressRange, Rate};
use crate::report::Problem;
use glacis_plan::nft::Per;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::time::Duration;

/// Names of zones, interfaces, sets, services and rules; the ruleset builds longer names of them.
const NAME_BYTES_MAX: usize = 32;
/// What nf_tables takes when a rule does not say.
pub(super) const BURST_DEFAULT: u32 = 5;

type Read<T> = Result<T, Problem>;

pub(super) fn text(scalar: &Scalar<'_>) -> Read<String> {
    let text = scalar.text("a text")?;
    if text.is_empty() { Err(scalar.wrong("a text")) } else { Ok(text.to_owned()) }
}

/// A letter or `_`, then letters, digits, `_`, `-`, `.`.
pub(super) fn name(scalar: &Scalar<'_>) -> Read<String> {
    let text = scalar.text("a name")?;
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let goes_on = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
    if starts && goes_on && text.len() <= NAME_BYTES_MAX {
        return Ok(text.to_owned());
    }
    Err(scalar.wrong("a name").hint(format!(
        "a letter or `_` first, then letters, digits, `_`, `-` or `.`, {NAME_BYTES_MAX} characters at most"
    )))
}

pub(super) fn boolean(scalar: &Scalar<'_>) -> Read<bool> {
    scalar.value.as_bool().ok_or_else(|| scalar.wrong("`#true` or `#false`"))
}

/// A whole number within bounds.
pub(super) fn integer(range: RangeInclusive<u32>) -> impl Fn(&Scalar<'_>) -> Read<u32> {
    move |scalar| {
        let wanted = || {
            let (first, last) = (range.start(), range.end());
            if first == last { first.to_string() } else { format!("a whole number from {first} to {last}") }
        };
        let value = scalar.value.as_integer().ok_or_else(|| unquote(scalar, scalar.wrong(&wanted())))?;
        u32::try_from(value).ok().filter(|value| range.contains(value)).ok_or_else(|| scalar.wrong(&wanted()))
    }
}

fn unquote(scalar: &Scalar<'_>, problem: Problem) -> Problem {
    match scalar.value.as_string().filter(|text| text.parse::<u32>().is_ok()) {
        Some(text) => problem.hint(format!("write {text} without quotes")),
        None => problem,
    }
}

/// One of a table's words.
pub(super) fn choice<T: Copy>(table: &'static [(&'static str, T)]) -> impl Fn(&Scalar<'_>) -> Read<T> {
    move |scalar| {
        let words: Vec<&str> = table.iter().map(|(word, _)| *word).collect();
        let wanted = list(words.iter().map(|word| format!("`{word}`"))).replace(" and ", " or ");
        let text = scalar.text(&wanted)?;
        table.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
            let problem = scalar.wrong(&wanted);
            match did_you_mean(text, &words) {
                Some(hint) => problem.hint(hint),
                None => problem,
            }
        })
    }
}

pub(super) fn port(scalar: &Scalar<'_>) -> Read<u16> {
    let wanted = "a port from 1 to 65535";
    let value = scalar.value.as_integer().ok_or_else(|| unquote(scalar, scalar.wrong(wanted)))?;
    u16::try_from(value).ok().filter(|port| *port != 0).ok_or_else(|| scalar.wrong(wanted))
}

/// `443` or `"27000-27100"`.
pub(super) fn ports(scalar: &Scalar<'_>) -> Read<RangeInclusive<u16>> {
    let Some(text) = scalar.value.as_string() else {
        return port(scalar).map(|port| port..=port);
    };
    let wrong = || scalar.wrong("a port from 1 to 65535 or a range such as \"27000-27100\"");
    let Some((first, last)) = text.split_once('-') else {
        return Err(unquote(scalar, wrong()));
    };
    let bound = |text: &str| digits(text).and_then(|n| u16::try_from(n).ok()).filter(|port| *port != 0);
    let (Some(first), Some(last)) = (bound(first), bound(last)) else {
        return Err(wrong());
    };
    if first > last {
        return Err(scalar
            .problem(format!("the range {text} runs backwards"))
            .hint(format!("write \"{last}-{first}\"")));
    }
    Ok(first..=last)
}

pub(super) fn address(scalar: &Scalar<'_>) -> Read<IpAddr> {
    let text = scalar.text("an address such as \"192.0.2.1\"")?;
    text.parse().map_err(|_| scalar.wrong("an address such as \"192.0.2.1\""))
}

/// An address with its prefix length, host bits kept.
pub(super) fn interface_address(scalar: &Scalar<'_>) -> Read<IpNet> {
    let wanted = "`dhcp` or an address with its prefix such as \"192.0.2.1/24\"";
    let text = scalar.text(wanted)?;
    let net: IpNet = text.parse().map_err(|_| match text.parse::<IpAddr>() {
        Ok(address) => {
            let length = if address.is_ipv4() { 24 } else { 64 };
            scalar.wrong(wanted).hint(format!("say how large its network is: \"{address}/{length}\""))
        }
        Err(_) => scalar.wrong(wanted),
    })?;
    let address = net.addr();
    let host_bits = net.max_prefix_len() - net.prefix_len();
    if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
        return Err(scalar.problem(format!("no interface can have the address {address}")));
    }
    if host_bits > 1 && address == net.network() {
        let hint = "write the interface's own address, with the prefix of the network";
        return Err(scalar.problem(format!("{net} is the network itself")).hint(hint));
    }
    if host_bits > 1 && address.is_ipv4() && address == net.broadcast() {
        return Err(scalar.problem(format!("{address} is the broadcast address of {}", net.trunc())));
    }
    Ok(net)
}

/// A network without host bits.
pub(super) fn network(scalar: &Scalar<'_>) -> Read<IpNet> {
    let wanted = "`default` or a network such as \"10.0.0.0/8\"";
    let net: IpNet = scalar.text(wanted)?.parse().map_err(|_| scalar.wrong(wanted))?;
    no_host_bits(scalar, net)
}

fn no_host_bits(scalar: &Scalar<'_>, net: IpNet) -> Read<IpNet> {
    if net.addr() == net.network() {
        return Ok(net);
    }
    let hint = format!("write \"{}\" for the network or \"{}\" for the address", net.trunc(), net.addr());
    Err(scalar.problem(format!("{net} has bits set beyond its prefix")).hint(hint))
}

/// `"10.0.0.1"`, `"10.0.0.0/8"` or `"10.0.0.1-10.0.0.9"`.
pub(super) fn addresses(scalar: &Scalar<'_>) -> Read<AddressRange> {
    let wanted = "an address, a network or a range such as \"10.0.0.1-10.0.0.9\"";
    let text = scalar.text(wanted)?;
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(AddressRange { first: address, last: address });
    }
    if let Ok(net) = text.parse::<IpNet>() {
        return no_host_bits(scalar, net)
            .map(|net| AddressRange { first: net.network(), last: net.broadcast() });
    }
    let parsed =
        text.split_once('-').and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
    let (first, last): (IpAddr, IpAddr) = parsed.ok_or_else(|| scalar.wrong(wanted))?;
    if first.is_ipv4() != last.is_ipv4() {
        return Err(scalar.problem("a range cannot go from IPv4 to IPv6"));
    }
    if first > last {
        let hint = format!("write \"{last}-{first}\"");
        return Err(scalar.problem(format!("the range {text} runs backwards")).hint(hint));
    }
    Ok(AddressRange { first, last })
}

/// Whether a text is meant as an address rather than a name.
pub(super) fn looks_like_address(text: &str) -> bool {
    text.contains([':', '/']) || text.starts_with(|c: char| c.is_ascii_digit())
}

/// `"203.0.113.9"`, `"203.0.113.9:8080"` or `"[2001:db8::9]:8080"`.
pub(super) fn address_and_port(scalar: &Scalar<'_>) -> Read<(IpAddr, Option<u16>)> {
    let wanted = "an address such as \"10.0.0.2\", or with a port \"10.0.0.2:8080\"";
    let text = scalar.text(wanted)?;
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok((address, None));
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(|| scalar.wrong(wanted))?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let address = match bare {
        Some(host) => host.parse::<Ipv6Addr>().map(IpAddr::from).ok(),
        None => host.parse::<Ipv4Addr>().map(IpAddr::from).ok(),
    };
    let port = digits(port).and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
    match (address, port) {
        (Some(address), Some(port)) => Ok((address, Some(port))),
        _ => Err(scalar.wrong(wanted)),
    }
}

/// `"90s"`, `"5m"`, `"1h"`, `"30d"`, `"2w"`, within bounds that `wanted` names.
pub(super) fn duration(
    range: RangeInclusive<Duration>,
    wanted: &'static str,
) -> impl Fn(&Scalar<'_>) -> Read<Duration> {
    move |scalar| {
        let wrong = || scalar.wrong(wanted);
        let Some(text) = scalar.value.as_string() else {
            return Err(wrong().hint("a duration is a number with s, m, h, d or w, in quotes: \"5m\""));
        };
        let unit_hint =
            || wrong().hint("a duration is a whole number with s, m, h, d or w: \"90s\", \"5m\", \"30d\"");
        let seconds = if text == "0" { Some(0) } else { seconds(text) };
        let value = Duration::from_secs(seconds.ok_or_else(unit_hint)?);
        if range.contains(&value) { Ok(value) } else { Err(wrong()) }
    }
}

/// Like [`duration`], and `"250ms"` as well.
pub(super) fn short_duration(
    range: RangeInclusive<Duration>,
    wanted: &'static str,
) -> impl Fn(&Scalar<'_>) -> Read<Duration> {
    move |scalar| {
        let wrong = || scalar.wrong(wanted);
        let Some(text) = scalar.value.as_string() else {
            return Err(wrong().hint("a duration is a number with ms, s, m, h, d or w, in quotes: \"500ms\""));
        };
        let value = match text.strip_suffix("ms") {
            Some(number) => digits(number).map(Duration::from_millis),
            None => seconds(text).map(Duration::from_secs),
        };
        let value = value.ok_or_else(|| {
            wrong().hint("a duration is a whole number with ms, s, m, h, d or w: \"500ms\", \"2s\"")
        })?;
        if range.contains(&value) { Ok(value) } else { Err(wrong()) }
    }
}

fn seconds(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    digits(number)?.checked_mul(per(unit)?.seconds())
}

fn per(unit: &str) -> Option<Per> {
    Some(match unit {
        "s" => Per::Second,
        "m" => Per::Minute,
        "h" => Per::Hour,
        "d" => Per::Day,
        "w" => Per::Week,
        _ => return None,
    })
}

/// Most packets a rate counts in its unit of time.
const RATE_PACKETS_MAX: u64 = 1_000_000;

/// `"5/s"`, with the default burst.
pub(super) fn rate(scalar: &Scalar<'_>) -> Read<Rate> {
    let wanted = "a rate such as \"5/s\", \"6/m\", \"100/h\" or \"1000/d\", 1000000 at most";
    let parsed =
        scalar.text(wanted)?.split_once('/').and_then(|(packets, unit)| Some((digits(packets)?, per(unit)?)));
    match parsed {
        Some((packets, per)) if (1..=RATE_PACKETS_MAX).contains(&packets) => {
            Ok(Rate { packets, per, burst: BURST_DEFAULT })
        }
        _ => Err(scalar.wrong(wanted)),
    }
}

/// Digits only: `u64::from_str` would take a `+` as well.
fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::decode::Fields;
    use crate::parse::problems::Problems;
    use kdl::KdlDocument;

    /// Reads the argument of `n ARGUMENT`; an error as its message.
    fn read<T>(argument: &str, read: impl Fn(&Scalar<'_>) -> Read<T>) -> Result<T, String> {
        let document = KdlDocument::parse(&format!("n {argument}")).unwrap();
        let problems = Problems::default();
        let value = Fields::new(&document.nodes()[0], &problems).argument(read);
        value.map(|spanned| spanned.value).ok_or_else(|| problems.take().0[0].message().to_owned())
    }

    #[test]
    fn ports_run_from_1_to_65535() {
        assert_eq!(read("1", port), Ok(1));
        assert_eq!(read("65535", port), Ok(65535));
        for bad in ["0", "65536", "-1", "1.5", "#true", "\"80\""] {
            assert!(read(bad, port).unwrap_err().contains("a port from 1 to 65535"), "{bad}");
        }
        assert_eq!(read("443", ports), Ok(443..=443));
        assert_eq!(read("\"27000-27100\"", ports), Ok(27000..=27100));
        for bad in ["\"0-5\"", "\"5-4\"", "\"5-70000\"", "\"-5\"", "\"5-\"", "\"+5-6\"", "\"443\""] {
            assert!(read(bad, ports).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_stay_within_their_bounds() {
        let window =
            || duration(Duration::from_secs(60)..=Duration::from_secs(86_400), "\"1m\" to \"1440m\"");
        assert_eq!(read("\"1m\"", window()), Ok(Duration::from_secs(60)));
        assert_eq!(read("\"1440m\"", window()), Ok(Duration::from_secs(86_400)));
        assert_eq!(read("\"1d\"", window()), Ok(Duration::from_secs(86_400)));
        for bad in
            ["\"59s\"", "\"1441m\"", "\"0\"", "5", "\"5\"", "\"5x\"", "\"m\"", "\"\"", "\"é\"", "\"-1m\""]
        {
            assert!(read(bad, window()).is_err(), "{bad}");
        }
        assert!(read("\"99999999999999999999w\"", window()).is_err());
        assert!(read("\"18446744073709551615w\"", window()).is_err());
    }

    #[test]
    fn short_durations_know_milliseconds() {
        let timeout =
            || short_duration(Duration::from_millis(10)..=Duration::from_secs(10), "\"10ms\" to \"10s\"");
        assert_eq!(read("\"10ms\"", timeout()), Ok(Duration::from_millis(10)));
        assert_eq!(read("\"10000ms\"", timeout()), Ok(Duration::from_secs(10)));
        assert_eq!(read("\"10s\"", timeout()), Ok(Duration::from_secs(10)));
        for bad in ["\"9ms\"", "\"10001ms\"", "\"11s\"", "\"ms\"", "\"1.5s\"", "\"500\"", "500", "\"500 ms\""]
        {
            assert!(read(bad, timeout()).is_err(), "{bad}");
        }
        assert!(read("\"99999999999999999999ms\"", timeout()).is_err());
    }

    #[test]
    fn an_interface_address_names_a_host() {
        assert!(read("\"192.0.2.1/24\"", interface_address).is_ok());
        assert!(read("\"192.0.2.0/31\"", interface_address).is_ok());
        assert!(read("\"2001:db8::1/64\"", interface_address).is_ok());
        for bad in [
            "192.0.2.0/24",
            "192.0.2.255/24",
            "192.0.2.1",
            "127.0.0.1/8",
            "224.0.0.1/4",
            "::/0",
            "2001:db8::/64",
        ] {
            assert!(read(&format!("\"{bad}\""), interface_address).is_err(), "{bad}");
        }
    }

    #[test]
    fn address_ranges_are_of_one_family_and_run_forwards() {
        let range = read("\"10.0.0.0/8\"", addresses).unwrap();
        assert_eq!(range.last, "10.255.255.255".parse::<IpAddr>().unwrap());
        assert!(read("\"10.0.0.1-10.0.0.9\"", addresses).is_ok());
        for bad in ["10.0.0.1/8", "10.0.0.9-10.0.0.1", "10.0.0.1-::1", "10.0.0", "-", "a-b"] {
            assert!(read(&format!("\"{bad}\""), addresses).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_address_may_carry_a_port() {
        let v6 = "2001:db8::9".parse::<IpAddr>().unwrap();
        assert_eq!(read("\"2001:db8::9\"", address_and_port), Ok((v6, None)));
        assert_eq!(read("\"[2001:db8::9]:80\"", address_and_port), Ok((v6, Some(80))));
        assert_eq!(read("\"10.0.0.2:80\"", address_and_port).unwrap().1, Some(80));
        for bad in ["10.0.0.2:0", "10.0.0.2:70000", "[10.0.0.2]:80", "host:80", "10.0.0.2:"] {
            assert!(read(&format!("\"{bad}\""), address_and_port).is_err(), "{bad}");
        }
    }

    #[test]
    fn rates_are_packets_per_time() {
        let six = read("\"6/m\"", rate).unwrap();
        assert_eq!((six.packets, six.per, six.burst), (6, Per::Minute, BURST_DEFAULT));
        for bad in ["0/s", "1000001/s", "5", "5/x", "/s", "5/"] {
            assert!(read(&format!("\"{bad}\""), rate).is_err(), "{bad}");
        }
    }
}
