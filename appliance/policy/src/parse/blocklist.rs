//! `blocklist local file="blocked.txt" { apply drop in=internet out=internet }`.

use super::Context;
use super::decode::Fields;
use super::values;
use crate::model::{Blocklist, Spanned};
use crate::report::Problem;
use kdl::KdlNode;

pub(super) fn decode(node: &KdlNode, cx: &Context<'_>) -> Option<Blocklist> {
    let mut fields = Fields::new(node, cx.problems);
    let name = fields.required_argument("a name", values::name);
    let file = fields.required("file", values::text);
    let children = fields.children(&["apply"]);
    let (mut drop_in, mut drop_out) = (Vec::new(), Vec::new());
    for node in children.all() {
        let (input, output) = apply(node, cx);
        drop_in.extend(input);
        drop_out.extend(output);
    }
    if children.all().next().is_none() {
        let hint = "say where: `apply drop in=internet`";
        cx.problems.add(Problem::new(fields.span(), "a blocklist that is not applied").hint(hint));
    }
    for zones in [&drop_in, &drop_out] {
        check_repeated(zones, cx);
    }
    let name = name?;
    cx.names.blocklists.check_first(&name, cx.problems);
    Some(Blocklist { name, file: file?, drop_in, drop_out })
}

/// Zones to drop packets from and to.
fn apply(node: &KdlNode, cx: &Context<'_>) -> (Option<Spanned<String>>, Option<Spanned<String>>) {
    let mut fields = Fields::new(node, cx.problems);
    fields.required_argument("`drop`", values::choice(&[("drop", ())]));
    let says_where = fields.has("in") || fields.has("out");
    let input = fields.property("in", |scalar| cx.names.zones.refer(scalar));
    let output = fields.property("out", |scalar| cx.names.zones.refer(scalar));
    if !says_where {
        let hint = "`in=` drops packets from listed sources, `out=` packets to listed destinations";
        cx.problems.add(Problem::new(fields.span(), "`apply` needs `in=` or `out=` with a zone").hint(hint));
    }
    (input, output)
}

fn check_repeated(zones: &[Spanned<String>], cx: &Context<'_>) {
    for (at, zone) in zones.iter().enumerate() {
        if let Some(first) = zones[..at].iter().find(|first| first.value == zone.value) {
            cx.problems.add(
                Problem::new(zone.span, format!("the list is applied to `{}` already", zone.value))
                    .label("second")
                    .related(first.span, "first"),
            );
        }
    }
}
