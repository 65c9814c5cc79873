//! Host names: which ones are, and which pattern they match.

use super::ClientHelloError;
use std::net::IpAddr;

/// Without the dot at the end (RFC 1035 section 3.1 has 255 with lengths and root).
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// Lower-cases a name. Addresses are no names (RFC 6066 section 3), but clients send them: `None`.
pub(super) fn read(name: &[u8]) -> Result<Option<String>, ClientHelloError> {
    let name = std::str::from_utf8(name).map_err(|_| ClientHelloError::WrongServerName)?;
    if name.parse::<IpAddr>().is_ok() {
        return Ok(None);
    }
    if !is_host_name(name) {
        return Err(ClientHelloError::WrongServerName);
    }
    Ok(Some(name.to_ascii_lowercase()))
}

/// Letters, digits, hyphens within; and underscores, which names on the web have although RFC 1123 does not know them.
fn is_host_name(name: &str) -> bool {
    name.len() <= NAME_BYTES_MAX
        && name.split('.').all(|label| {
            (1..=LABEL_BYTES_MAX).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

/// Whether a name is the pattern, or is below it where the pattern begins with `*.`; both in lower case.
///
/// `*.example.org` stands for every name below `example.org`, however deep, and not for `example.org` itself.
pub fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(below) => below.starts_with('.') && name.len() > below.len() && name.ends_with(below),
        None => pattern == name,
    }
}
