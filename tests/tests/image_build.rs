//! The whole image from the real packages: fetched through apt, built, and taken apart by other people's tools.

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::Command;

use glacis_image::partition::{DATA_BYTES, ESP_BYTES, POLICY_BYTES, POLICY_FILE};
use glacis_image::{Built, Inputs, Lock, Packages, Profile, build, cache_dir, fetch};
use tempfile::NamedTempFile;

const POLICY: &str = "policy version=1 name=\"test\"\n// Grüße\n";
const MIB: u64 = 1 << 20;
/// Kernel and modules alone; the appliance has what is left of 24 MiB.
const UKI_BYTES_MAX: u64 = 17 * MIB;

/// Standard output of a tool that must succeed.
fn run(program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| {
        panic!("{program}: {error}; the tests need gdisk, dosfstools, mtools, e2fsprogs")
    });
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{program} {arguments:?}: {}\n{stdout}{stderr}", output.status);
    output.stdout
}

/// Builds in a folder of its own, with a stand-in for the binary: nothing here runs it.
fn build_in(folder: &Path, packages: &Packages, cache: &Path) -> Built {
    let binary = folder.join("glacis");
    fs::write(&binary, b"the appliance").expect("the temporary folder is writable");
    let inputs = Inputs {
        binary: &binary,
        policy: POLICY,
        kernel_package: &packages.kernel,
        boot_package: &packages.boot,
        profile: &Profile::vm().expect("the shipped profile is valid"),
        version: "0.1.0",
        cmdline_extra: "",
        output: &folder.join("glacis.img"),
        cache: Some(cache),
    };
    build(&inputs, &mut |report| eprintln!("{report:?}")).expect("the image builds")
}

/// A partition of the image as a file.
fn cut(image: &Path, at: u64, bytes: u64) -> NamedTempFile {
    let mut source = fs::File::open(image).expect("the image was built");
    source.seek(SeekFrom::Start(at)).expect("a file seeks");
    let mut file = NamedTempFile::new().expect("the temporary folder is writable");
    std::io::copy(&mut source.take(bytes), &mut file).expect("the temporary folder has room");
    file.flush().expect("the temporary folder has room");
    file
}

#[test]
fn an_image_of_the_real_packages_is_whole_and_reproducible() {
    let packages =
        fetch(&Lock::shipped().unwrap(), &cache_dir(), &mut |report| eprintln!("{report:?}")).unwrap();
    let [first, second, cache] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let built = build_in(first.path(), &packages, cache.path());
    let again = build_in(second.path(), &packages, cache.path());
    for (one, other) in
        [(&built.image, &again.image), (&built.kernel, &again.kernel), (&built.initrd, &again.initrd)]
    {
        assert!(
            fs::read(one).unwrap() == fs::read(other).unwrap(),
            "{} and {}",
            one.display(),
            other.display()
        );
    }
    assert!(built.sizes.uki <= UKI_BYTES_MAX, "{:?}", built.sizes);

    let image = built.image.to_str().unwrap();
    let verified = String::from_utf8(run("sgdisk", &["-v", image])).unwrap();
    assert!(verified.contains("No problems found"), "{verified}");

    let path = |file: &NamedTempFile| file.path().to_str().unwrap().to_owned();
    let esp = cut(&built.image, MIB, ESP_BYTES);
    let policy = cut(&built.image, MIB + ESP_BYTES, POLICY_BYTES);
    let data = cut(&built.image, MIB + ESP_BYTES + POLICY_BYTES, DATA_BYTES);
    run("fsck.fat", &["-n", &path(&esp)]);
    run("fsck.fat", &["-n", &path(&policy)]);
    run("e2fsck", &["-f", "-n", &path(&data)]);
    assert_eq!(run("mtype", &["-i", &path(&policy), &format!("::{POLICY_FILE}")]), POLICY.as_bytes());

    let uki = run("mtype", &["-i", &path(&esp), "::EFI/Linux/glacis_0.1.0.efi"]);
    assert_eq!(uki.len() as u64, built.sizes.uki);
    for (part, content) in
        [("kernel", fs::read(&built.kernel).unwrap()), ("initramfs", fs::read(&built.initrd).unwrap())]
    {
        // Sections start on a multiple of 512 bytes: the first bytes find them, the rest proves them.
        let found = (0..uki.len()).step_by(512).any(|at| uki[at..].starts_with(&content));
        assert!(found, "the boot entry carries the {part} that lies beside the image");
    }
}
