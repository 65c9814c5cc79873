//! `status { listen tcp=9777 on=home }`.

use super::Context;
use super::decode::Fields;
use super::problems::Problems;
use super::values;
use crate::model::{Forward, Spanned, Status, Traffic, Zone};
use crate::report::Problem;
use kdl::KdlNode;

pub(super) fn decode(node: &KdlNode, cx: &Context<'_>) -> Option<Status> {
    let mut fields = Fields::new(node, cx.problems);
    let children = fields.children(&["listen"]);
    let mut listeners: Vec<(Spanned<u16>, Spanned<String>)> = Vec::new();
    for node in children.all() {
        let mut fields = Fields::new(node, cx.problems);
        let port = fields.required("tcp", values::port);
        let zone = fields.required("on", |scalar| cx.names.zones.refer(scalar));
        listeners.extend(port.zip(zone));
    }
    if children.all().next().is_none() {
        let hint = "say where it listens: `listen tcp=9777 on=home`";
        cx.problems.add(Problem::new(fields.span(), "a status page that listens nowhere").hint(hint));
    }
    check_listeners(&listeners, cx.problems);
    let port = listeners.first()?.0.value;
    Some(Status { port, on: listeners.into_iter().map(|(_, zone)| zone).collect() })
}

fn check_listeners(listeners: &[(Spanned<u16>, Spanned<String>)], problems: &Problems) {
    for (at, (port, zone)) in listeners.iter().enumerate() {
        let first = &listeners[0].0;
        if port.value != first.value {
            problems.add(
                Problem::new(port.span, "the status page listens on one port")
                    .label("another port")
                    .related(first.span, "the first")
                    .hint(format!("write tcp={} here as well", first.value)),
            );
        }
        if let Some((_, first)) = listeners[..at].iter().find(|(_, first)| first.value == zone.value) {
            let problem = Problem::new(zone.span, format!("it listens on `{}` already", zone.value));
            problems.add(problem.label("second").related(first.span, "first"));
        }
    }
}

/// A forwarded port never reaches the status page.
pub(super) fn check(status: &Status, forwards: &[Forward], zones: &[Zone], problems: &Problems) {
    let takes = |forward: &Forward| {
        forward.what.iter().any(|what| matches!(what, Traffic::Tcp(ports) if ports.contains(&status.port)))
    };
    for forward in forwards.iter().filter(|forward| takes(forward)) {
        let zone =
            zones.iter().find(|zone| zone.interfaces.iter().any(|name| name.value == forward.input.value));
        let listener = zone.and_then(|zone| status.on.iter().find(|on| on.value == zone.name.value));
        if let Some(listener) = listener {
            problems.add(
                Problem::new(forward.span, format!("port {} is that of the status page", status.port))
                    .label("forwarded away")
                    .related(listener.span, "the status page listens here")
                    .hint("give one of them another port"),
            );
        }
    }
}
