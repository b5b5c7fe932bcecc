//! ModelScope, from `add` to the last byte, with its listing that is cut and its ranges that are none.

mod support;

use modelfs::base::Secret;
use modelfs::hub::{HubError, HubOptions, HubSet};
use std::fs;
use std::time::{Duration, Instant};
use support::asking::{describe, run, word};
use support::fake_hub::{FakeHub, Fault, Place, Rule, sha256_of, sha256_of_file};
use support::fake_modelscope::{FakeModelScope, SmallRange, session_of};
use support::mounted::{Fuse, Sandbox, eventually, fuse_or_skip, modelfs_xattr};
use support::tiny::large_lora;

const MIB: usize = 1 << 20;
const TOKEN: &str = "ms-secret-token";
const REPO: &str = "org/name";
const LARGE: &str = "loras/style.safetensors";
const DONE_MAX: Duration = Duration::from_secs(60);

fn sandbox_for(hub: &FakeModelScope) -> Sandbox {
    let mut sandbox = Sandbox::new();
    sandbox.set("MODELSCOPE_ENDPOINT", &hub.origins.endpoint()).set("MODELSCOPE_API_TOKEN", TOKEN);
    sandbox
}

fn client(hub: &FakeModelScope) -> HubSet {
    let modelscope_token = Some(Secret::new(TOKEN.to_owned()));
    HubSet::new(HubOptions { modelscope_endpoint: hub.origins.endpoint(), modelscope_token, ..HubOptions::default() })
}

#[test]
fn a_repository_is_listed_and_read_however_its_site_answers_ranges() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    for how in [SmallRange::PartAs200, SmallRange::Whole] {
        let hub = FakeModelScope::start();
        let bytes = large_lora(1, 3 * MIB);
        let text = "{\"key\":1}".repeat(1000);
        hub.large(REPO, LARGE, bytes.clone()).small(REPO, "config.json", text.as_str()).small_range(how);
        let sandbox = sandbox_for(&hub);
        let added = sandbox.run(["add", "--json", "modelscope:org/name"]).success().json();
        assert_eq!(added[0]["path"].as_str(), Some("hubs/modelscope/org/name"), "{added}");
        let info = sandbox.run(["info", "--json", "modelscope:org/name/loras/style.safetensors"]).success().json();
        assert_eq!((info["license"].as_str(), info["creator"].as_str()), (Some("apache-2.0"), Some("org")), "{info}");
        let mount = sandbox.mount(&[]);
        let root = mount.path("hubs/modelscope/org/name");
        assert_eq!(sha256_of_file(&root.join(LARGE)).expect("readable"), sha256_of(&bytes));
        assert_eq!(fs::read(root.join("config.json")).expect("readable"), text.as_bytes());
        let log = mount.unmount();
        assert_eq!(hub.origins.leaks(), 0, "the token left its origin");
        let asks = hub.origins.asks();
        let at_site = || asks.iter().filter(|ask| !ask.at_storage);
        assert!(at_site().all(|ask| ask.bearer() == Some(TOKEN) && session_of(ask) == Some(TOKEN)));
        assert!(hub.origins.given() > 0 && !log.contains(TOKEN), "{log}");
        sandbox.run(["verify"]).success();
    }
}

#[test]
fn a_listing_that_is_cut_is_walked() {
    let hub = FakeModelScope::start();
    for number in 0..2990 {
        hub.small(REPO, &format!("parts/{}/{number:04}.txt", number % 2), format!("{number}"));
    }
    for number in 0..30 {
        hub.small(REPO, &format!("top-{number}.txt"), "x");
    }
    hub.spurious_refusals(1).old_only();
    let listing = describe(&client(&hub), "modelscope:org/name").expect("a public repository");
    assert_eq!(listing.files.len(), 3020);
    assert_eq!(listing.about.license.as_deref(), Some("Apache License 2.0"), "the older interface answers");
    let folder = describe(&client(&hub), "modelscope:org/name@master/parts/1").expect("a folder of it");
    assert_eq!(folder.files.len(), 1495);
}

#[test]
fn refusals_say_what_they_are() {
    let hub = FakeModelScope::start();
    hub.large(REPO, LARGE, large_lora(2, MIB)).small(REPO, "notes.txt", "text");
    let refused = |text: &str| word(&describe(&client(&hub), text).map(|listing| listing.files.len()).expect_err(text));
    assert_eq!(refused("modelscope:org/none"), "RepoNotFound");
    assert_eq!(refused("modelscope:org/name@v9"), "RepoNotFound");
    assert_eq!(refused("modelscope:org/name/none.bin"), "EntryNotFound");
    // A file that went away is a failure in JSON, with either status.
    let listing = describe(&client(&hub), "modelscope:org/name/notes.txt").expect("there");
    let file = &listing.files[0];
    let origin = modelfs::hub::Origin {
        source: listing.source,
        repo: listing.repo.clone(),
        commit: listing.asked_by.clone(),
        path: file.path.clone(),
    };
    let wanted = modelfs::hub::Expected { size_bytes: file.size_bytes, sha256: file.sha256, etag: None };
    let range = modelfs::base::ByteRange::new(0, file.size_bytes).expect("not empty");
    hub.remove(REPO, "notes.txt");
    for status in [200, 404] {
        hub.missing_status(status);
        let error = run(client(&hub).open_range(&origin, &wanted, range)).map(drop).expect_err("gone");
        assert_eq!(word(&error), "EntryNotFound", "{status}: {error}");
    }
}

#[test]
fn the_pause_a_hub_asks_for_holds_for_all_who_call_it() {
    let hub = FakeModelScope::start();
    hub.large(REPO, LARGE, large_lora(3, MIB));
    hub.busy(true);
    let client = client(&hub);
    let start = Instant::now();
    assert_eq!(word(&describe(&client, "modelscope:org/name").expect_err("busy")), "RateLimited");
    hub.busy(false);
    let asked = hub.origins.asks().len();
    let HubError::RateLimited { retry_after: Some(wait), .. } =
        describe(&client, "modelscope:org/name").expect_err("resting")
    else {
        panic!("another failure")
    };
    assert!(wait <= Duration::from_secs(30) && wait + start.elapsed() >= Duration::from_secs(29), "{wait:?}");
    assert_eq!(hub.origins.asks().len(), asked, "nobody asks meanwhile");
}

#[test]
fn one_content_of_two_hubs_is_one_file_and_each_can_finish_it() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let scope = FakeModelScope::start();
    let mut face = FakeHub::start();
    let bytes = large_lora(4, 12 * MIB);
    scope.large(REPO, LARGE, bytes.clone());
    face.repo("other/repo").lfs("style.safetensors", bytes.clone());
    let mut sandbox = sandbox_for(&scope);
    sandbox.set("HF_ENDPOINT", &face.endpoint()).set("MODELFS_SOURCES_ORDER", "huggingface");
    sandbox.run(["add", "modelscope:org/name", "hf:other/repo"]).success();
    let listed = sandbox.run(["ls", "--json"]).success().json();
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");

    // The first in the order gives some of it and then nothing more.
    face.fault(Rule::new(Fault::Truncate { after_bytes: MIB as u64 }).at(Place::Bytes));
    face.fault(Rule::new(Fault::Status(404)).at(Place::Resolve).after(1));
    face.expire_signed_urls();
    let before = (face.cdn_bytes_sent("style.safetensors"), scope.origins.given());
    let mount = sandbox.mount(&[]);
    let path = mount.path("comfyui/loras/style.safetensors");
    let twin = mount.path("hubs/huggingface/other/repo/style.safetensors");
    let inode = |path: &std::path::Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).expect("listed"));
    assert_eq!(inode(&path), inode(&twin));
    assert_eq!(sha256_of_file(&path).expect("readable"), sha256_of(&bytes));
    eventually("it is resident", DONE_MAX, || modelfs_xattr(&path, "state").as_deref() == Some("resident"));
    let sources = modelfs_xattr(&path, "sources").expect("known");
    assert!(sources.contains("huggingface") && sources.contains("modelscope"), "{sources}");
    assert!(face.cdn_bytes_sent("style.safetensors") > before.0, "the first in the order was asked first");
    assert!(scope.origins.given() > before.1, "the second went on");
    face.stop();
    mount.unmount();
    sandbox.run(["verify"]).success();
}
