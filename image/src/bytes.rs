//! Little-endian fields at fixed offsets, as every on-disk structure here has them.

/// Writes `field` at `offset`.
///
/// # Panics
/// When it does not fit: offsets are constants of a format and buffers have that format's size.
pub(crate) fn put(buffer: &mut [u8], offset: usize, field: &[u8]) {
    buffer[offset..offset + field.len()].copy_from_slice(field);
}

pub(crate) fn put_u16(buffer: &mut [u8], offset: usize, value: u16) {
    put(buffer, offset, &value.to_le_bytes());
}

pub(crate) fn put_u32(buffer: &mut [u8], offset: usize, value: u32) {
    put(buffer, offset, &value.to_le_bytes());
}

/// The field at `offset`, or nothing when the buffer ends before it: for bytes that come from a package.
pub(crate) fn get_u16(buffer: &[u8], offset: usize) -> Option<u16> {
    let field = buffer.get(offset..offset.checked_add(2)?)?;
    Some(u16::from_le_bytes(field.try_into().expect("the slice has two bytes")))
}

/// The field at `offset`, or nothing when the buffer ends before it: for bytes that come from a package.
pub(crate) fn get_u32(buffer: &[u8], offset: usize) -> Option<u32> {
    let field = buffer.get(offset..offset.checked_add(4)?)?;
    Some(u32::from_le_bytes(field.try_into().expect("the slice has four bytes")))
}

/// Lower-case hexadecimal, as `sha256sum` prints it.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String does not fail");
        text
    })
}
