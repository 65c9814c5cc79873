//! Whom a gate takes at their word: `accept-proxy from="10.0.0.0/28"`, `ignore admins country="DE"`.

use super::countries;
use crate::model::{GeoipDatabase, Peer, Spanned};
use crate::parse::Context;
use crate::parse::decode::{Children, Fields};
use crate::parse::problems::Problems;
use crate::parse::rules;
use crate::report::Problem;
use glacis_plan::GeoipKind;

/// Sets, addresses or countries that one gate names; each kind for itself.
const NAMED_MAX: usize = 256;

/// Proxies in front of us; empty when there are none.
pub(super) fn fronts(children: &Children<'_>, cx: &Context<'_>) -> Vec<Spanned<Peer>> {
    let nodes = children.many("accept-proxy");
    let fronts = nodes
        .filter_map(|node| Fields::new(node, cx.problems).required("from", |scalar| rules::peer(scalar, cx)));
    let fronts: Vec<_> = fronts.collect();
    check_twice(&fronts, cx.problems);
    fronts
}

/// Addresses and countries whose clients are never looked at.
pub(super) fn ignored(
    children: &Children<'_>,
    geoip: &[GeoipDatabase],
    cx: &Context<'_>,
) -> (Vec<Spanned<Peer>>, Vec<Spanned<String>>) {
    let (mut peers, mut countries) = (Vec::new(), Vec::new());
    for node in children.many("ignore") {
        let mut fields = Fields::new(node, cx.problems);
        let says_nothing = fields.argument_count() == 0 && !fields.has("country");
        peers.extend(fields.arguments(|scalar| rules::peer(scalar, cx)));
        countries.extend(fields.property("country", countries::code));
        if says_nothing {
            let hint =
                "name sets, addresses or a country: `ignore admins \"198.51.100.0/24\" country=\"DE\"`";
            cx.problems.add(Problem::new(fields.span(), "`ignore` names nobody").hint(hint));
        }
    }
    check_twice(&peers, cx.problems);
    check_twice(&countries, cx.problems);
    let tells_countries =
        geoip.iter().any(|database| matches!(database.kind, GeoipKind::City | GeoipKind::Country));
    if let Some(country) = countries.first().filter(|_| !tells_countries) {
        cx.problems.add(
            Problem::new(country.span, "no database of this policy tells countries")
                .hint("name one beside the policy: `geoip { country \"GeoLite2-Country.mmdb\" }`"),
        );
    }
    (peers, countries)
}

/// Also bounds how many there are: each is compared with those before it.
fn check_twice<T: PartialEq>(named: &[Spanned<T>], problems: &Problems) {
    if let Some(surplus) = named.get(NAMED_MAX) {
        let message = format!("{} are named here, and {NAMED_MAX} are the most", named.len());
        problems
            .add(Problem::new(surplus.span, message).label("one too many").hint("put addresses into a set"));
        return;
    }
    for (at, second) in named.iter().enumerate() {
        if let Some(first) = named[..at].iter().find(|first| first.value == second.value) {
            problems.add(
                Problem::new(second.span, "this is named twice")
                    .label("second")
                    .related(first.span, "first")
                    .hint("take one of them out"),
            );
        }
    }
}
