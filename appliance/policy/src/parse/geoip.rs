//! `geoip { city "GeoLite2-City.mmdb"; asn "GeoLite2-ASN.mmdb" }`.

use super::Context;
use super::decode::Fields;
use super::values;
use crate::model::GeoipDatabase;
use crate::report::Problem;
use glacis_plan::GeoipKind;
use kdl::KdlNode;

const KINDS: [GeoipKind; 4] = [GeoipKind::City, GeoipKind::Country, GeoipKind::Isp, GeoipKind::Asn];

pub(super) fn decode(node: &KdlNode, cx: &Context<'_>) -> Vec<GeoipDatabase> {
    let mut fields = Fields::new(node, cx.problems);
    let children = fields.children(&KINDS.map(GeoipKind::name));
    if children.all().next().is_none() {
        let hint = "name a file beside the policy: `city \"GeoLite2-City.mmdb\"`";
        cx.problems.add(Problem::new(fields.span(), "a `geoip` without a database").hint(hint));
    }
    let database = |kind: GeoipKind| {
        let file = children.value(kind.name(), "the name of a file", values::text)?;
        Some(GeoipDatabase { kind, file })
    };
    KINDS.into_iter().filter_map(database).collect()
}
