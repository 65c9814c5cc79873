//! What a refused client gets, and what becomes of it: `deny status=403 notice="…"`, `on-open block="24h"`.

use super::Protocol;
use crate::model::OnOpen;
use crate::parse::auto_block::{BLOCK, BLOCK_WANTED, limited};
use crate::parse::decode::{Fields, Scalar};
use crate::parse::problems::Problems;
use crate::parse::values;
use crate::report::Problem;
use glacis_plan::gate::{Deny, GateProtocol};
use kdl::KdlNode;
use std::ops::RangeInclusive;

const STATUS: RangeInclusive<u32> = 400..=599;
const STATUS_DEFAULT: u16 = 403;
const NOTICE_BYTES_MAX: usize = 512;
const CONTACT_BYTES_MAX: usize = 256;

/// `deny close`, or the properties of a page.
pub(super) fn deny(node: Option<&KdlNode>, protocol: &Protocol, problems: &Problems) -> Deny {
    let Some(node) = node else {
        return match protocol.value {
            GateProtocol::Http => Deny::Page { status: STATUS_DEFAULT, notice: None, contact: None },
            GateProtocol::Tcp | GateProtocol::Tls => Deny::Close,
        };
    };
    let mut fields = Fields::new(node, problems);
    let pages = ["status", "notice", "contact"].into_iter().any(|name| fields.has(name));
    let close = fields.argument(|scalar| match scalar.value.as_string() {
        Some("close") => Ok(()),
        _ => Err(scalar.wrong("`close`, or a page: `status=403 notice=\"https://…\" contact=\"…\"`")),
    });
    let status = fields.property("status", values::integer(STATUS));
    let notice = fields.property("notice", notice);
    let contact = fields.property("contact", contact);
    let span = fields.span();
    match &close {
        Some(close) if pages => problems.add(
            Problem::new(span, "`deny` both closes and shows a page")
                .related(close.span, "nothing is said before a close")
                .hint("take `close` out, or the page's properties"),
        ),
        None if pages && protocol.value != GateProtocol::Http => {
            let message = format!("a client of `protocol {}` cannot be shown a page", protocol.value.name());
            let problem = Problem::new(span, message).hint("write `protocol http`, or `deny close`");
            problems.add(protocol.blame(problem));
        }
        None if !pages && node.entries().is_empty() => {
            let hint = "deny close, or deny status=403 notice=\"https://…\" contact=\"noc@…\"";
            problems.add(Problem::new(span, "`deny` does not say how").hint(hint));
        }
        _ => {}
    }
    if close.is_some() {
        return Deny::Close;
    }
    Deny::Page {
        status: status.map_or(STATUS_DEFAULT, |status| status.value as u16),
        notice: notice.map(|notice| notice.value),
        contact: contact.map(|contact| contact.value),
    }
}

/// The address of a page. What would have to be escaped in one stays out.
fn notice(scalar: &Scalar<'_>) -> Result<String, Problem> {
    let wanted = "the address of a page such as \"https://www.example.org/why\"";
    let text = scalar.text(wanted)?;
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'\'' | b'<' | b'>' | b'`' | b'\\');
    if rest.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(plain)) && text.len() <= NOTICE_BYTES_MAX
    {
        return Ok(text.to_owned());
    }
    let hint = format!(
        "`http://` or `https://` first, then no space, quote or angle bracket, {NOTICE_BYTES_MAX} bytes at most"
    );
    Err(scalar.wrong(wanted).hint(hint))
}

fn contact(scalar: &Scalar<'_>) -> Result<String, Problem> {
    let text = values::text(scalar)?;
    if text.len() <= CONTACT_BYTES_MAX && !text.chars().any(char::is_control) {
        return Ok(text);
    }
    Err(scalar.problem(format!("a contact has {CONTACT_BYTES_MAX} bytes at most and stands on one line")))
}

/// `on-open block="24h"`.
pub(super) fn on_open(node: &KdlNode, problems: &Problems) -> Option<OnOpen> {
    let mut fields = Fields::new(node, problems);
    let block = fields.required("block", values::duration(BLOCK, BLOCK_WANTED))?;
    Some(OnOpen { block: limited(block.value) })
}
