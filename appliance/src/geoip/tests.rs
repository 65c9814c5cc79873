use super::GeoDatabases;
use super::database::FILE_BYTES_MAX;
use glacis_control::report::GeoipStatus;
use glacis_control::scan_query::Location;
use glacis_plan::{GeoipFile, GeoipKind};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const CITY: &str = "GeoIP2-City-Test.mmdb";
const LITE_CITY: &str = "GeoLite2-City-Test.mmdb";
const COUNTRY: &str = "GeoLite2-Country-Test.mmdb";
const ISP: &str = "GeoIP2-ISP-Test.mmdb";
const ASN: &str = "GeoLite2-ASN-Test.mmdb";

/// A policy's folder and a state folder.
struct Scene {
    policy: TempDir,
    _state: TempDir,
    databases: GeoDatabases,
}

impl Scene {
    fn new() -> Self {
        let folder = || tempfile::tempdir().expect("a temporary folder can be made");
        let state = folder();
        Self { policy: folder(), databases: GeoDatabases::new(state.path()), _state: state }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.policy.path().join(name)
    }

    /// As people replace files: the new one gets the name when it is whole.
    fn install(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path("new"), bytes).expect("the folder takes files");
        fs::rename(self.path("new"), self.path(name)).expect("the folder takes files");
    }

    fn refresh(&self, files: &[(GeoipKind, &str)]) -> Vec<GeoipStatus> {
        self.databases.shared.refresh(&named(files), self.policy.path());
        self.databases.status()
    }

    fn locate(&self, address: &str) -> Location {
        self.databases.locate(address.parse().expect("a test's address is one"))
    }

    /// With the real databases, all four or fewer.
    fn with(files: &[(GeoipKind, &str)]) -> Self {
        let scene = Self::new();
        for (_, name) in files {
            scene.install(name, &fixture(name));
        }
        for status in scene.refresh(files) {
            assert_eq!(status.error, None, "{}", status.file);
            assert!(status.built.is_some(), "{}", status.file);
        }
        scene
    }
}

fn named(files: &[(GeoipKind, &str)]) -> Vec<GeoipFile> {
    files.iter().map(|(kind, name)| GeoipFile { kind: *kind, path: PathBuf::from(name) }).collect()
}

fn fixture(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/geoip");
    fs::read(folder.join(name)).expect("the fixture is in the repository")
}

fn place(location: &Location) -> [&str; 4] {
    [&location.country_code, &location.country, &location.region, &location.city]
}

fn error(statuses: &[GeoipStatus]) -> &str {
    statuses[0].error.as_deref().unwrap_or_default()
}

#[test]
fn a11_addresses_are_placed_in_english() {
    for city in [CITY, LITE_CITY] {
        let scene = Scene::with(&[(GeoipKind::City, city)]);
        for (address, known) in [
            ("2.125.160.216", ["GB", "United Kingdom", "England", "Boxford"]),
            ("81.2.69.160", ["GB", "United Kingdom", "England", "London"]),
            ("89.160.20.112", ["SE", "Sweden", "Östergötland County", "Linköping"]),
            ("175.16.199.0", ["CN", "China", "Jilin Sheng", "Changchun"]),
            ("216.160.83.56", ["US", "United States", "Washington", "Milton"]),
            ("2001:218::1", ["JP", "Japan", "", ""]),
            ("2001:480:10::7", ["US", "United States", "California", "San Diego"]),
            ("192.0.2.1", ["", "", "", ""]),
            ("::1", ["", "", "", ""]),
        ] {
            assert_eq!(place(&scene.locate(address)), known, "{address} in {city}");
        }
    }
}

#[test]
fn a11_providers_fall_back_to_the_autonomous_system() {
    let both = Scene::with(&[(GeoipKind::Isp, ISP), (GeoipKind::Asn, ASN)]);
    let provider = |scene: &Scene, address| {
        let location = scene.locate(address);
        (location.isp, location.asn)
    };
    assert_eq!(provider(&both, "1.128.0.1"), ("Telstra Internet".into(), 1221));
    assert_eq!(
        provider(&both, "2003::1"),
        ("Deutsche Telekom AG".into(), 3320),
        "the ISP file's own fallback"
    );
    assert_eq!(provider(&both, "89.160.20.112"), ("Bredband2 AB".into(), 29518));
    assert_eq!(provider(&both, "12.81.96.1").1, 7018);
    let asn = Scene::with(&[(GeoipKind::Asn, ASN)]);
    assert_eq!(provider(&asn, "1.128.0.1"), ("Telstra Pty Ltd".into(), 1221));
    assert_eq!(provider(&asn, "12.81.96.1"), (String::new(), 7018), "no organisation");
    assert_eq!(provider(&asn, "192.0.2.1"), (String::new(), 0));
}

#[test]
fn a11_all_kinds_together_and_city_before_country() {
    let all = Scene::with(&[
        (GeoipKind::City, CITY),
        (GeoipKind::Country, COUNTRY),
        (GeoipKind::Isp, ISP),
        (GeoipKind::Asn, ASN),
    ]);
    let location = all.locate("89.160.20.112");
    assert_eq!(place(&location), ["SE", "Sweden", "Östergötland County", "Linköping"]);
    assert_eq!((location.isp.as_str(), location.asn), ("Bredband2 AB", 29518));
    let country = Scene::with(&[(GeoipKind::Country, COUNTRY)]);
    assert_eq!(place(&country.locate("89.160.20.112")), ["SE", "Sweden", "", ""]);
}

#[test]
fn a11_without_a_database_nothing_is_known_and_nothing_is_wrong() {
    let scene = Scene::new();
    assert!(scene.locate("2.125.160.216").is_empty());
    assert_eq!(scene.refresh(&[]), []);
    scene.databases.begin_refresh(&[], scene.policy.path());
}

#[test]
fn a11_a_replaced_file_is_read_again_and_an_unchanged_one_is_not() {
    let files = [(GeoipKind::City, "city.mmdb")];
    let scene = Scene::new();
    scene.install("city.mmdb", &fixture(COUNTRY));
    assert!(error(&scene.refresh(&files)).contains("GeoLite2-Country"));
    scene.install("city.mmdb", &fixture(CITY));
    let first = scene.refresh(&files);
    assert_eq!(error(&first), "");
    assert_eq!(scene.locate("81.2.69.160").city, "London");
    let database =
        |scene: &Scene| scene.databases.shared.current()[0].database.clone().expect("one is in use");
    let before = database(&scene);
    scene.refresh(&files);
    assert!(std::sync::Arc::ptr_eq(&before, &database(&scene)), "it was read again for nothing");

    // The newer one, and in place: as `cp` does it.
    let mut newer = fixture(LITE_CITY);
    patch_epoch(&mut newer, 1_770_245_369, 1_770_245_370);
    fs::write(scene.path("city.mmdb"), &newer).unwrap();
    let second = scene.refresh(&files);
    assert_eq!(second[0].built.unwrap().0, 1_770_245_370_000);
    assert_ne!(first[0].built, second[0].built);
}

/// Replaces the build time, a number of four bytes or more behind its key.
fn patch_epoch(database: &mut [u8], from: u32, to: u32) {
    let (from, to) = (from.to_be_bytes(), to.to_be_bytes());
    let at = database.windows(4).rposition(|bytes| bytes == from).expect("the fixture's build time is known");
    database[at..at + 4].copy_from_slice(&to);
}

#[test]
fn a_broken_new_version_leaves_the_former_in_use_and_says_so() {
    let files = [(GeoipKind::City, "city.mmdb")];
    let scene = Scene::new();
    scene.install("city.mmdb", &fixture(CITY));
    let built = scene.refresh(&files)[0].built;
    for (what, bytes) in [
        ("empty", vec![]),
        ("text", b"<html>404</html>".to_vec()),
        ("half a download", fixture(CITY)[..10_000].to_vec()),
        ("another kind", fixture(ASN)),
    ] {
        scene.install("city.mmdb", &bytes);
        for round in 0..2 {
            let status = scene.refresh(&files);
            assert!(
                error(&status).ends_with("; the former version stays in use"),
                "{what}, {round}: {status:?}"
            );
            assert_eq!(status[0].built, built);
        }
        assert_eq!(scene.locate("81.2.69.160").city, "London", "{what}");
    }
    fs::remove_file(scene.path("city.mmdb")).unwrap();
    let status = scene.refresh(&files);
    assert!(error(&status).contains("No such file"), "{status:?}");
    assert_eq!(scene.locate("81.2.69.160").city, "London");
    scene.install("city.mmdb", &fixture(LITE_CITY));
    assert_eq!(error(&scene.refresh(&files)), "");
    assert_eq!(scene.refresh(&[]), [], "a policy without databases has none");
    assert!(scene.locate("81.2.69.160").is_empty());
}

#[test]
fn what_is_no_database_is_an_error_and_nothing_else() {
    let scene = Scene::new();
    scene.install("asn.mmdb", &fixture(ASN));
    fs::create_dir(scene.path("folder")).unwrap();
    File::create(scene.path("huge")).unwrap().set_len(FILE_BYTES_MAX + 1).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, scene.path("pipe"), rustix::fs::Mode::RUSR).unwrap();
    std::os::unix::fs::symlink("loop", scene.path("loop")).unwrap();
    for (name, said) in [
        ("missing", "No such file"),
        ("folder", "no regular file"),
        ("pipe", "no regular file"),
        ("/dev/zero", "no regular file"),
        ("loop", "symbolic link"),
        ("huge", "more than the 512 that are read"),
        ("asn.mmdb", "calls itself `GeoLite2-ASN` and the policy names it as city"),
    ] {
        let status = scene.refresh(&[(GeoipKind::City, name)]);
        assert!(error(&status).contains(said), "{name}: {status:?}");
        assert_eq!(status[0].built, None);
    }
    assert!(scene.locate("81.2.69.160").is_empty());
}

#[test]
fn files_cut_off_anywhere_are_refused() {
    let whole = fixture(CITY);
    let scene = Scene::new();
    let cuts = (0..whole.len()).step_by(409).chain(whole.len() - 400..whole.len());
    for bytes in cuts {
        scene.install("city.mmdb", &whole[..bytes]);
        let status = scene.refresh(&[(GeoipKind::City, "city.mmdb")]);
        assert!(error(&status).contains("no MaxMind database"), "cut at {bytes}: {status:?}");
    }
}

#[test]
fn damaged_files_are_refused_or_counted_and_never_end_the_process() {
    let whole = fixture(CITY);
    let scene = Scene::new();
    // A linear congruential generator with a fixed seed: the same damage every time.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |bound: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound
    };
    let mut refused = 0;
    for _ in 0..60 {
        let mut damaged = whole.clone();
        for _ in 0..64 {
            let at = next(damaged.len());
            damaged[at] = next(256) as u8;
        }
        let scene = Scene::new();
        scene.install("city.mmdb", &damaged);
        let status = scene.refresh(&[(GeoipKind::City, "city.mmdb")]);
        refused += usize::from(status[0].error.is_some());
        for n in 0..2_000_u32 {
            let location = scene.databases.locate(std::net::Ipv4Addr::from_bits(n * 2_147_483).into());
            assert!(location.city.len() <= 96 && !location.city.contains(char::is_control));
        }
    }
    assert!(refused > 0, "so much damage is never seen");
    assert!(scene.locate("81.2.69.160").is_empty());
}

#[test]
fn a_damaged_record_is_counted_when_it_is_met() {
    let mut damaged = fixture(CITY);
    while let Some(at) = damaged.windows(6).position(|bytes| bytes == b"London") {
        damaged[at] = 0xff;
    }
    let scene = Scene::new();
    scene.install("city.mmdb", &damaged);
    assert_eq!(error(&scene.refresh(&[(GeoipKind::City, "city.mmdb")])), "");
    assert_eq!(scene.locate("216.160.83.56").city, "Milton");
    assert!(scene.locate("81.2.69.160").is_empty(), "the name is no UTF-8");
    assert_eq!(error(&scene.databases.status()), "1 look-ups met a damaged record; replace the file");
}

#[test]
fn truncating_a_file_in_use_harms_nobody() {
    let scene = Scene::with(&[(GeoipKind::City, CITY)]);
    File::options().write(true).open(scene.path(CITY)).unwrap().set_len(0).unwrap();
    assert_eq!(scene.locate("81.2.69.160").city, "London");
}

#[test]
fn a_refresh_in_the_background_does_not_wait() {
    let scene = Scene::new();
    scene.install("city.mmdb", &fixture(CITY));
    scene.databases.begin_refresh(&named(&[(GeoipKind::City, "city.mmdb")]), scene.policy.path());
    let deadline = Instant::now() + Duration::from_secs(20);
    while scene.databases.status().is_empty() {
        assert!(Instant::now() < deadline, "the refresh does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(scene.locate("81.2.69.160").city, "London");
}
