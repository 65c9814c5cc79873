//! Where a source is and what it sends, in few words.

use glacis_control::ProbeKinds;
use glacis_control::scan_query::Location;
use maud::{Markup, html};

/// `Frankfurt am Main, Germany · Example Net (AS64500)`; empty when nothing is known.
pub fn location(location: &Location) -> String {
    let country = if location.country.is_empty() { &location.country_code } else { &location.country };
    let mut place = vec![];
    for part in [&location.city, &location.region, country] {
        if !part.is_empty() && !place.contains(&part.as_str()) {
            place.push(part.as_str());
        }
    }
    let provider = match (location.isp.as_str(), location.asn) {
        ("", 0) => String::new(),
        ("", asn) => format!("AS{asn}"),
        (isp, 0) => isp.to_owned(),
        (isp, asn) => format!("{isp} (AS{asn})"),
    };
    let parts = [place.join(", "), provider];
    parts.iter().filter(|part| !part.is_empty()).map(String::as_str).collect::<Vec<_>>().join(" · ")
}

/// One mark for every kind of probe.
pub fn kinds(kinds: ProbeKinds) -> Markup {
    html! {
        @if !kinds.is_empty() {
            span .kinds { @for kind in kinds.iter() { span .kind { (kind.name()) } " " } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a11_a_location_says_what_is_known_and_nothing_twice() {
        let whole = Location {
            country_code: "DE".into(),
            country: "Germany".into(),
            region: "Berlin".into(),
            city: "Berlin".into(),
            isp: "Example Net".into(),
            asn: 64_500,
        };
        assert_eq!(location(&whole), "Berlin, Germany · Example Net (AS64500)");
        let code = Location { country_code: "SE".into(), ..Location::default() };
        assert_eq!(location(&code), "SE");
        assert_eq!(location(&Location { asn: 64_501, ..code }), "SE · AS64501");
        assert_eq!(location(&Location::default()), "");
    }
}
