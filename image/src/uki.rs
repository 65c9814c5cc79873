//! Unified kernel image: systemd's EFI stub with kernel, initramfs and command line as further PE sections
//! (UAPI specification UAPI.5; PE format: Microsoft's "PE Format").

use crate::bytes::{get_u16, get_u32, put, put_u16, put_u32};
use crate::error::ImageError;

const DOS_PE_OFFSET: usize = 0x3c;
/// Signature and COFF header, before the optional header.
const COFF_BYTES: usize = 24;
const PE32_PLUS: u16 = 0x20b;
const SECTION_HEADER_BYTES: usize = 40;
/// `IMAGE_SCN_CNT_INITIALIZED_DATA | IMAGE_SCN_MEM_READ`.
const SECTION_READ_ONLY_DATA: u32 = 0x4000_0040;
/// EFI firmware maps by page.
const PAGE_BYTES: u32 = 4096;

/// Offsets in the optional header.
const SIZE_OF_INITIALIZED_DATA: usize = 8;
const SECTION_ALIGNMENT: usize = 32;
const FILE_ALIGNMENT: usize = 36;
const SIZE_OF_IMAGE: usize = 56;
const SIZE_OF_HEADERS: usize = 60;
const CHECK_SUM: usize = 64;

/// Offsets in the COFF header, the signature counted in.
const NUMBER_OF_SECTIONS: usize = 6;
const TIME_DATE_STAMP: usize = 8;
const SYMBOL_TABLE: usize = 12;
const SIZE_OF_OPTIONAL_HEADER: usize = 20;

/// Appends the sections, each a name of at most eight bytes and its content, behind those of the stub.
pub(crate) fn assemble(stub: &[u8], sections: &[(&str, &[u8])]) -> Result<Vec<u8>, ImageError> {
    let fail = |reason: String| ImageError::Stub { reason };
    let header = Header::parse(stub).ok_or_else(|| fail("it is no PE32+ file with whole sections".into()))?;
    let table_end = header.table + (header.sections + sections.len()) * SECTION_HEADER_BYTES;
    if table_end > header.headers_bytes {
        return Err(fail(format!("{table_end} bytes of headers where it keeps {}", header.headers_bytes)));
    }
    let content_bytes: u64 =
        sections.iter().map(|(_, content)| content.len() as u64 + u64::from(PAGE_BYTES)).sum();
    if content_bytes + stub.len() as u64 > u64::from(i32::MAX as u32) {
        return Err(fail(format!("{content_bytes} bytes of content, a PE file ends at 2 GiB")));
    }

    // Anything behind the last section is debugging symbols, which firmware does not read.
    let mut file = stub[..header.raw_end].to_vec();
    put(&mut file, header.coff + SYMBOL_TABLE, &[0; 8]);
    let mut address = header.virtual_end;
    let mut initialized = header.initialized_bytes;
    for (index, (name, content)) in sections.iter().enumerate() {
        address = address.next_multiple_of(header.section_alignment);
        pad(&mut file, header.file_alignment);
        let raw_at = file.len() as u32;
        file.extend_from_slice(content);
        pad(&mut file, header.file_alignment);
        let raw_bytes = file.len() as u32 - raw_at;

        let mut entry = [0; SECTION_HEADER_BYTES];
        put(&mut entry, 0, name.as_bytes());
        put_u32(&mut entry, 8, content.len() as u32);
        put_u32(&mut entry, 12, address);
        put_u32(&mut entry, 16, raw_bytes);
        put_u32(&mut entry, 20, raw_at);
        put_u32(&mut entry, 36, SECTION_READ_ONLY_DATA);
        put(&mut file, header.table + (header.sections + index) * SECTION_HEADER_BYTES, &entry);
        address += content.len() as u32;
        initialized += raw_bytes;
    }
    put_u16(&mut file, header.coff + NUMBER_OF_SECTIONS, (header.sections + sections.len()) as u16);
    put_u32(&mut file, header.coff + TIME_DATE_STAMP, 0);
    put_u32(&mut file, header.optional + SIZE_OF_INITIALIZED_DATA, initialized);
    put_u32(&mut file, header.optional + SIZE_OF_IMAGE, address.next_multiple_of(header.section_alignment));
    // Firmware checks signatures, not this sum; zero means that there is none.
    put_u32(&mut file, header.optional + CHECK_SUM, 0);
    Ok(file)
}

fn pad(file: &mut Vec<u8>, alignment: u32) {
    file.resize(file.len().next_multiple_of(alignment as usize), 0);
}

/// What has to be known of the stub.
struct Header {
    coff: usize,
    optional: usize,
    table: usize,
    sections: usize,
    section_alignment: u32,
    file_alignment: u32,
    headers_bytes: usize,
    initialized_bytes: u32,
    /// End of the last section in the file.
    raw_end: usize,
    /// End of the last section in memory.
    virtual_end: u32,
}

impl Header {
    fn parse(stub: &[u8]) -> Option<Self> {
        let coff = get_u32(stub, DOS_PE_OFFSET)? as usize;
        let optional = coff.checked_add(COFF_BYTES)?;
        if stub.get(coff..coff + 4)? != b"PE\0\0" || get_u16(stub, optional)? != PE32_PLUS {
            return None;
        }
        let table = optional + usize::from(get_u16(stub, coff + SIZE_OF_OPTIONAL_HEADER)?);
        let sections = usize::from(get_u16(stub, coff + NUMBER_OF_SECTIONS)?);
        let (mut raw_end, mut virtual_end) = (0, 0);
        for index in 0..sections {
            let entry = table + index * SECTION_HEADER_BYTES;
            let raw = get_u32(stub, entry + 16)?.checked_add(get_u32(stub, entry + 20)?)?;
            raw_end = raw_end.max(raw as usize);
            virtual_end = virtual_end.max(get_u32(stub, entry + 8)?.checked_add(get_u32(stub, entry + 12)?)?);
        }
        let file_alignment = get_u32(stub, optional + FILE_ALIGNMENT)?;
        let headers_bytes = get_u32(stub, optional + SIZE_OF_HEADERS)? as usize;
        let whole = file_alignment.is_power_of_two() && headers_bytes <= raw_end && raw_end <= stub.len();
        whole.then_some(Self {
            coff,
            optional,
            table,
            sections,
            section_alignment: get_u32(stub, optional + SECTION_ALIGNMENT)?.max(PAGE_BYTES),
            file_alignment,
            headers_bytes,
            initialized_bytes: get_u32(stub, optional + SIZE_OF_INITIALIZED_DATA)?,
            raw_end,
            virtual_end,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A PE32+ file of one section with room for three more headers, and symbols behind it.
    pub(crate) fn stub() -> Vec<u8> {
        let mut stub = vec![0; 0x600];
        put(&mut stub, 0, b"MZ");
        put_u32(&mut stub, DOS_PE_OFFSET, 0x80);
        put(&mut stub, 0x80, b"PE\0\0");
        put_u16(&mut stub, 0x80 + NUMBER_OF_SECTIONS, 1);
        put_u16(&mut stub, 0x80 + SIZE_OF_OPTIONAL_HEADER, 240);
        let optional = 0x80 + COFF_BYTES;
        put_u16(&mut stub, optional, PE32_PLUS);
        put_u32(&mut stub, optional + SECTION_ALIGNMENT, 512);
        put_u32(&mut stub, optional + FILE_ALIGNMENT, 512);
        put_u32(&mut stub, optional + SIZE_OF_HEADERS, 0x400);
        let text = optional + 240;
        put(&mut stub, text, b".text");
        for (offset, value) in [(8, 0x123), (12, 0x1000), (16, 0x200), (20, 0x400)] {
            put_u32(&mut stub, text + offset, value);
        }
        stub.extend_from_slice(b"symbols");
        stub
    }

    #[test]
    fn sections_follow_those_of_the_stub() {
        let file = assemble(&stub(), &[(".cmdline", b"quiet"), (".linux", &[7; 5000])]).unwrap();
        let table = 0x80 + COFF_BYTES + 240;
        assert_eq!(get_u16(&file, 0x80 + NUMBER_OF_SECTIONS), Some(3));
        for (index, name, content, address) in
            [(1, &b".cmdline"[..], &b"quiet"[..], 0x2000), (2, b".linux\0\0", &[7; 5000], 0x3000)]
        {
            let entry = table + index * SECTION_HEADER_BYTES;
            assert_eq!(&file[entry..entry + 8], name);
            assert_eq!(get_u32(&file, entry + 8), Some(content.len() as u32));
            assert_eq!(get_u32(&file, entry + 12), Some(address));
            let at = get_u32(&file, entry + 20).unwrap() as usize;
            assert_eq!(at % 512, 0);
            assert_eq!(&file[at..at + content.len()], content);
        }
        assert_eq!(get_u32(&file, 0x80 + COFF_BYTES + SIZE_OF_IMAGE), Some(0x5000));
        assert!(!file.windows(7).any(|bytes| bytes == b"symbols"));
    }

    #[test]
    fn a_stub_without_room_or_shape_is_refused() {
        let many = [(".a", &b""[..]); 20];
        assert!(matches!(assemble(&stub(), &many), Err(ImageError::Stub { .. })));
        let whole = stub();
        for cut in 0..0x600 {
            assert!(assemble(&whole[..cut], &[]).is_err(), "cut at {cut}");
        }
    }
}
