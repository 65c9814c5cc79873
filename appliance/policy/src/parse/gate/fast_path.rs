//! `fast-path #true source=own established=keep`: whether the kernel leads admitted clients by itself.

use super::agree::Own;
use super::lead::Lead;
use crate::parse::decode::{Children, Fields, head};
use crate::parse::problems::Problems;
use crate::parse::values;
use crate::report::Problem;
use glacis_plan::gate::{FastPath, FastPathEstablished, FastPathSource};
use kdl::KdlNode;
use miette::SourceSpan;

const SOURCE: &[(&str, FastPathSource)] = &[("own", FastPathSource::Own), ("client", FastPathSource::Client)];
const ESTABLISHED: &[(&str, FastPathEstablished)] =
    &[("keep", FastPathEstablished::Keep), ("drop", FastPathEstablished::Drop)];
const DEFAULT: FastPath = FastPath { source: FastPathSource::Own, established: FastPathEstablished::Keep };

/// A line that a connection through the kernel could not honour.
struct Obstacle {
    span: SourceSpan,
    why: &'static str,
}

/// Without the node: on, unless something stands in its way.
pub(super) fn decode(
    children: &Children<'_>,
    lead: &Lead,
    own: &Own,
    problems: &Problems,
) -> Option<FastPath> {
    let obstacle = obstacle(children, lead, own);
    let Some(node) = children.one("fast-path") else {
        return obstacle.is_none().then_some(DEFAULT);
    };
    let asked = asked(node, problems);
    if let (Some(_), Some(Obstacle { span, why })) = (asked, obstacle) {
        problems.add(
            Problem::new(head(node), "the kernel cannot lead clients of this gate by itself")
                .related(span, why)
                .hint("take `fast-path` out, or what stands in its way"),
        );
    }
    asked
}

fn asked(node: &KdlNode, problems: &Problems) -> Option<FastPath> {
    let mut fields = Fields::new(node, problems);
    let says = fields.has("source") || fields.has("established");
    let given = fields.argument_count();
    let on = fields.argument(values::boolean);
    let source = fields.property("source", values::choice(SOURCE));
    let established = fields.property("established", values::choice(ESTABLISHED));
    if given == 0 && !says {
        let hint = "write `fast-path #true` or `fast-path #false`";
        problems.add(Problem::new(fields.span(), "`fast-path` does not say what").hint(hint));
    }
    if let Some(off) = on.filter(|on| !on.value) {
        if says {
            let problem = Problem::new(fields.span(), "how the fast path is, and that there is none");
            problems.add(problem.related(off.span, "off").hint("take `#false` out, or all the rest"));
        }
        return None;
    }
    Some(FastPath {
        source: source.map_or(DEFAULT.source, |source| source.value),
        established: established.map_or(DEFAULT.established, |established| established.value),
    })
}

/// The first line that forbids it.
fn obstacle(children: &Children<'_>, lead: &Lead, own: &Own) -> Option<Obstacle> {
    let node =
        |name: &'static str, why| children.many(name).next().map(|node| Obstacle { span: head(node), why });
    let backends = || lead.pools.iter().flatten();
    node("accept-proxy", "only the gate reads the headers of proxies in front")
        .or_else(|| node("route", "only the gate reads server names"))
        .or_else(|| {
            let told = backends().find(|backend| backend.proxy_protocol.is_some())?;
            Some(Obstacle { span: told.span, why: "only the gate writes a PROXY header to this backend" })
        })
        .or_else(|| {
            let ours = backends().find(|backend| own.holds(backend.address.ip()))?;
            Some(Obstacle { span: ours.span, why: "this backend is the host itself" })
        })
}
