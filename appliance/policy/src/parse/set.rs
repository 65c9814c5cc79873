//! `set admins { entry "198.51.100.7" note="office" }`.

use super::Context;
use super::decode::Fields;
use super::problems::Problems;
use super::values;
use crate::model::{AddressRange, AddressSet, Spanned};
use crate::report::Problem;
use kdl::KdlNode;
use std::cmp::Reverse;

pub(super) fn decode(node: &KdlNode, cx: &Context<'_>) -> Option<AddressSet> {
    let mut fields = Fields::new(node, cx.problems);
    let name = fields.required_argument("a name", values::name);
    let children = fields.children(&["entry"]);
    let entries: Vec<_> = children.all().filter_map(|node| entry(node, cx.problems)).collect();
    if children.all().next().is_none() {
        let hint = "give it an address: `entry \"198.51.100.7\"`";
        cx.problems.add(Problem::new(fields.span(), "a set without entries matches nothing").hint(hint));
    }
    check_covered(&entries, cx.problems);
    let name = name?;
    cx.names.sets.check_first(&name, cx.problems);
    Some(AddressSet { name, entries })
}

fn entry(node: &KdlNode, problems: &Problems) -> Option<Spanned<AddressRange>> {
    let mut fields = Fields::new(node, problems);
    fields.property("note", values::text);
    fields.required_argument("an address, a network or a range", values::addresses)
}

/// An entry that lies in another one adds nothing.
fn check_covered(entries: &[Spanned<AddressRange>], problems: &Problems) {
    let mut sorted: Vec<_> = entries.iter().collect();
    sorted.sort_by_key(|entry| (entry.first, Reverse(entry.last), entry.span.offset()));
    let mut widest: Option<&Spanned<AddressRange>> = None;
    for entry in sorted {
        // Addresses of IPv4 sort before those of IPv6, so a wider range of the other family never lies here.
        let covering = widest
            .filter(|widest| widest.first.is_ipv4() == entry.first.is_ipv4() && entry.last <= widest.last);
        match covering {
            Some(widest) => problems.add(
                Problem::new(entry.span, "this entry is in the set already")
                    .related(widest.span, "as part of this one")
                    .hint("take it out"),
            ),
            None => widest = Some(entry),
        }
    }
}
