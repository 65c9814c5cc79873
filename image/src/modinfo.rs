//! One kernel module: its bytes, and what its `.modinfo` section says (kernel: `include/linux/module.h`).

use std::io::Read;

use lzma_rust2::XzReader;
use object::elf::FileHeader64;
use object::read::elf::ElfFile;
use object::{Endianness, Object, ObjectSection};

use crate::error::ImageError;
use crate::modules::name_of;

/// The largest module of a distribution kernel is about 20 MiB.
const MODULE_BYTES_MAX: u64 = 64 << 20;

/// A module, decompressed.
#[derive(Debug)]
pub(crate) struct Module {
    pub(crate) name: String,
    /// The ELF file with its signature behind it.
    pub(crate) elf: Vec<u8>,
    /// Modules that must be loaded before.
    pub(crate) depends: Vec<String>,
    /// Names or aliases to try before (`softdep=pre:`).
    pub(crate) soft_before: Vec<String>,
    /// Names or aliases to try after (`softdep=post:`): carried, and left to whoever asks for them.
    pub(crate) soft_after: Vec<String>,
    pub(crate) aliases: Vec<String>,
}

impl Module {
    pub(crate) fn unpack(name: &str, xz: &[u8]) -> Result<Self, ImageError> {
        let fail = |reason: String| ImageError::Module { module: name.into(), reason };
        let mut elf = Vec::with_capacity(xz.len() * 6);
        // One byte over the limit tells a module of the limit's size from a larger one.
        let mut unpacked = XzReader::new(xz, true).take(MODULE_BYTES_MAX + 1);
        unpacked.read_to_end(&mut elf).map_err(|e| fail(format!("it cannot be decompressed: {e}")))?;
        if elf.len() as u64 > MODULE_BYTES_MAX {
            return Err(fail(format!("it is larger than {MODULE_BYTES_MAX} bytes")));
        }
        let mut module = Self {
            name: name.into(),
            elf: Vec::new(),
            depends: Vec::new(),
            soft_before: Vec::new(),
            soft_after: Vec::new(),
            aliases: Vec::new(),
        };
        module.read_info(modinfo(&elf).map_err(fail)?);
        module.elf = elf;
        Ok(module)
    }

    pub(crate) fn file_name(&self) -> String {
        format!("{}.ko", self.name)
    }

    /// Takes `key=value` strings, each ended by a zero byte.
    fn read_info(&mut self, section: &[u8]) {
        for entry in section.split(|byte| *byte == 0) {
            let entry = String::from_utf8_lossy(entry);
            let Some((key, value)) = entry.split_once('=') else { continue };
            match key {
                "depends" => {
                    self.depends.extend(value.split(',').filter(|name| !name.is_empty()).map(name_of));
                }
                "softdep" => self.read_softdep(value),
                "alias" => self.aliases.push(value.into()),
                _ => {}
            }
        }
    }

    /// `pre: a b post: c`, as modprobe.d(5) writes it.
    fn read_softdep(&mut self, value: &str) {
        let mut list = &mut self.soft_before;
        for word in value.split_whitespace() {
            match word {
                "pre:" => list = &mut self.soft_before,
                "post:" => list = &mut self.soft_after,
                _ => list.push(name_of(word)),
            }
        }
    }
}

fn modinfo(elf: &[u8]) -> Result<&[u8], String> {
    let file = ElfFile::<FileHeader64<Endianness>>::parse(elf).map_err(|e| e.to_string())?;
    let section = file.section_by_name(".modinfo").ok_or("it has no section .modinfo")?;
    section.data().map_err(|e| e.to_string())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write;

    use lzma_rust2::{XzOptions, XzWriter};

    use super::*;

    /// A module file as a kernel package holds it: the least ELF with a `.modinfo` section, in xz.
    pub(crate) fn packed(info: &[&str]) -> Vec<u8> {
        let mut writer = XzWriter::new(Vec::new(), XzOptions::with_preset(0)).unwrap();
        writer.write_all(&elf_with(info)).unwrap();
        writer.finish().unwrap()
    }

    fn elf_with(info: &[&str]) -> Vec<u8> {
        const NAMES: &[u8] = b"\0.shstrtab\0.modinfo\0";
        let data: Vec<u8> = info.iter().flat_map(|entry| entry.bytes().chain([0])).collect();
        let names_at = 64;
        let data_at = names_at + NAMES.len();
        let table_at = (data_at + data.len()).next_multiple_of(8);
        let mut elf = vec![0; table_at + 3 * 64];
        elf[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        let mut put = |at: usize, bytes: &[u8]| elf[at..at + bytes.len()].copy_from_slice(bytes);
        put(16, &[1, 0, 62, 0, 1, 0, 0, 0]); // ET_REL, x86-64, version
        put(40, &(table_at as u64).to_le_bytes());
        put(52, &[64, 0, 0, 0, 0, 0, 64, 0, 3, 0, 1, 0]); // header sizes, three sections, names in section 1
        put(names_at, NAMES);
        put(data_at, &data);
        for (index, (name, kind, at, bytes)) in
            [(1_u32, 3_u32, names_at, NAMES.len()), (11, 1, data_at, data.len())].into_iter().enumerate()
        {
            let entry = table_at + (index + 1) * 64;
            put(entry, &name.to_le_bytes());
            put(entry + 4, &kind.to_le_bytes());
            put(entry + 24, &(at as u64).to_le_bytes());
            put(entry + 32, &(bytes as u64).to_le_bytes());
        }
        elf
    }

    #[test]
    fn modinfo_gives_dependencies_and_aliases() {
        let info = [
            "license=GPL",
            "depends=scsi-mod,libata",
            "softdep=pre: a-b c post: d",
            "alias=pci:v*d*",
            "alias=x y",
        ];
        let module = Module::unpack("sd_mod", &packed(&info)).unwrap();
        assert_eq!(module.depends, ["scsi_mod", "libata"]);
        assert_eq!(module.soft_before, ["a_b", "c"]);
        assert_eq!(module.soft_after, ["d"]);
        assert_eq!(module.aliases, ["pci:v*d*", "x y"]);
        assert!(Module::unpack("sd_mod", &packed(&["depends="])).unwrap().depends.is_empty());
    }

    #[test]
    fn a_damaged_module_is_an_error_that_names_it() {
        let whole = packed(&["depends="]);
        for damaged in [&b""[..], b"not xz", &whole[..whole.len() / 2]] {
            let error = Module::unpack("sd_mod", damaged).unwrap_err();
            assert!(error.to_string().starts_with("kernel module sd_mod: "), "{error}");
        }
    }
}
