//! `policy version=1 name="edge-1"`: which language the file is written in, and what the host is called.

use super::decode::{Fields, Scalar};
use super::problems::Problems;
use super::values;
use crate::report::Problem;
use kdl::KdlNode;

/// The only version of the language so far.
const VERSION: u32 = 1;
const NAME_DEFAULT: &str = "glacis";
/// RFC 1035, section 2.3.4.
const HOST_NAME_BYTES_MAX: usize = 63;

/// The host's name; `None` when the node is missing.
pub(super) fn decode(node: Option<&KdlNode>, problems: &Problems) -> Option<String> {
    let Some(node) = node else {
        problems.add(
            Problem::new((0, 0).into(), "the file does not say that it is a policy")
                .hint("begin it with `policy version=1 name=\"edge-1\"`"),
        );
        return None;
    };
    let mut fields = Fields::new(node, problems);
    fields.required("version", values::integer(VERSION..=VERSION));
    let name = fields.property("name", host_name);
    Some(name.map_or_else(|| String::from(NAME_DEFAULT), |name| name.value))
}

fn host_name(scalar: &Scalar<'_>) -> Result<String, Problem> {
    let wanted = "a host name: letters, digits and `-`, 63 at most";
    let text = scalar.text(wanted)?;
    let fits = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if fits
        && !text.is_empty()
        && text.len() <= HOST_NAME_BYTES_MAX
        && !text.starts_with('-')
        && !text.ends_with('-')
    {
        Ok(text.to_owned())
    } else {
        Err(scalar.wrong(wanted))
    }
}
