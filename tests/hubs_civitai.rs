//! Civitai, from `add` to the last byte, and every way in which it refuses.

mod support;

use modelfs::base::{Digest, FileChoice, Locator, Secret};
use modelfs::hub::{HubOptions, HubSet};
use modelfs::tree::Source;
use std::fs;
use support::asking::{describe, run, word};
use support::fake_civitai::{Access, FakeCivitai, File, Version};
use support::fake_hub::{Content, sha256_of, sha256_of_file};
use support::mounted::{Fuse, Sandbox, fuse_or_skip, modelfs_xattr};
use support::tiny::large_lora;

const MIB: usize = 1 << 20;
const KEY: &str = "civitai_secret_key";

fn sandbox_for(hub: &FakeCivitai) -> Sandbox {
    let mut sandbox = Sandbox::new();
    sandbox.set("MODELFS_CIVITAI_ENDPOINT", &hub.origins.endpoint()).set("CIVITAI_API_KEY", KEY);
    sandbox
}

fn client(hub: &FakeCivitai, key: Option<&str>) -> HubSet {
    let civitai_token = key.map(|key| Secret::new(key.to_owned()));
    HubSet::new(HubOptions { civitai_endpoint: hub.origins.endpoint(), civitai_token, ..HubOptions::default() })
}

#[test]
fn a_version_is_listed_read_and_told_about() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let hub = FakeCivitai::start();
    let (style, old) = (large_lora(1, 3 * MIB), large_lora(2, 2 * MIB));
    hub.key(KEY).model(
        12,
        "LORA",
        vec![
            Version::new(
                34,
                Access::Login,
                vec![
                    File::new(501, "style.safetensors", style.clone()),
                    // Its size is not told exactly, and its hash not yet.
                    File { claimed_kib: Some(7.3), hashed: false, ..File::new(502, "style.safetensors", old.clone()) },
                    File { kind: "Training Data", ..File::new(503, "images.zip", "pictures") },
                ],
            ),
            Version::new(33, Access::Login, vec![File::new(400, "old.safetensors", old.clone())]),
        ],
    );
    let sandbox = sandbox_for(&hub);
    let added = sandbox.run(["add", "--json", "https://civitai.com/models/12/a-slug"]).success().json();
    assert_eq!(added[0]["path"].as_str(), Some("hubs/civitai/12/34"), "{added}");
    assert_eq!((added[0]["models"].as_u64(), added[0]["files"].as_u64()), (Some(2), Some(3)), "{added}");
    sandbox.run(["add", "urn:air:sd1:lora:civitai:12@33"]).success();
    let info = sandbox.run(["info", "--json", "civitai:12@34+501"]).success().json();
    assert_eq!((info["type"].as_str(), info["creator"].as_str()), (Some("lora"), Some("painter")), "{info}");
    assert_eq!(info["trigger_words"], serde_json::json!(["sunlit style", "sunlit", "glow"]), "{info}");
    assert_eq!(info["tags"], serde_json::json!(["style", "sun"]), "{info}");
    assert!(info["license"].as_str().is_some_and(|line| line.contains("credit required")), "{info}");
    assert_eq!(info["sources"][0]["url"].as_str(), Some("https://civitai.com/models/12?modelVersionId=34"), "{info}");

    let mount = sandbox.mount(&[]);
    for (path, bytes) in [
        ("hubs/civitai/12/34/style.safetensors", &style),
        ("hubs/civitai/12/34/style~502.safetensors", &old),
        ("hubs/civitai/12/33/old.safetensors", &old),
        ("by/creator/painter/style.safetensors", &style),
    ] {
        let path = mount.path(path);
        assert_eq!(fs::metadata(&path).expect("listed").len(), bytes.len() as u64, "{}", path.display());
        assert_eq!(sha256_of_file(&path).expect("readable"), sha256_of(bytes), "{}", path.display());
    }
    assert_eq!(fs::read(mount.path("hubs/civitai/12/34/images.zip")).expect("readable"), b"pictures");
    assert_eq!(modelfs_xattr(&mount.path("comfyui/loras/style.safetensors"), "source").as_deref(), Some("civitai"));
    let log = mount.unmount();
    assert_eq!(hub.origins.leaks(), 0, "the key left its origin");
    assert!(hub.origins.given() > 0 && !log.contains(KEY), "{log}");
    sandbox.run(["verify"]).success();
}

#[test]
fn refusals_say_what_they_are() {
    let hub = FakeCivitai::start();
    let cases = [
        (1, Access::Early, "EarlyAccess", "early access"),
        (2, Access::Disabled, "Forbidden", "disabled downloads"),
        (3, Access::Login, "LoginRequired", "accounts only"),
        (4, Access::Missing(99), "EntryNotFound", "not in that revision"),
        (5, Access::Archived, "Archived", "archived"),
        (6, Access::Busy, "RateLimited", "later"),
    ];
    for (id, access, ..) in cases {
        let file = File::new(id * 10, "a.safetensors", Content::generated(id, 5000));
        hub.model(id, "LORA", vec![Version::new(id * 100, access, vec![file])]);
    }
    for (id, access, expected, told) in cases {
        let client = client(&hub, None);
        let listing = describe(&client, &format!("civitai:{id}"));
        if access == Access::Archived {
            assert_eq!(listing.as_ref().map_err(word).err().as_deref(), Some(expected));
            continue;
        }
        let listing = listing.expect("a page can be looked at");
        assert_eq!(listing.files[0].size_bytes, 5000);
        let gated = matches!(access, Access::Early | Access::Disabled | Access::Login);
        assert_eq!(listing.gated, gated, "{access:?}");
        let file = &listing.files[0];
        let origin = modelfs::hub::Origin {
            source: Source::Civitai,
            repo: listing.repo.clone(),
            commit: listing.asked_by.clone(),
            path: file.known_by.clone().expect("a number"),
        };
        let wanted = modelfs::hub::Expected { size_bytes: 5000, sha256: file.sha256, etag: None };
        let range = modelfs::base::ByteRange::new(0, 10).expect("not empty");
        let error = run(client.open_range(&origin, &wanted, range)).map(drop).expect_err(expected);
        assert_eq!(word(&error), expected, "{error}");
        assert!(error.to_string().contains(told), "{error}");
    }
    assert_eq!(word(&describe(&client(&hub, Some("wrong")), "civitai:99").expect_err("none")), "RepoNotFound");
    assert_eq!(word(&describe(&client(&hub, None), "civitai:1@7").expect_err("none")), "RevisionNotFound");
    assert_eq!(
        word(&describe(&client(&hub, None), "https://civitai.com/model-versions/7").expect_err("none")),
        "RevisionNotFound"
    );
    hub.mode(3, "TakenDown");
    assert_eq!(word(&describe(&client(&hub, None), "civitai:3").expect_err("taken down")), "Disabled");
    hub.mode(3, "Archived");
    assert_eq!(word(&describe(&client(&hub, None), "civitai:3").expect_err("archived")), "Archived");
    hub.block_region();
    assert_eq!(word(&describe(&client(&hub, None), "civitai:1").expect_err("blocked")), "RegionBlocked");
}

#[test]
fn a_file_that_is_missing_for_a_moment_is_there() {
    let hub = FakeCivitai::start();
    let file = File { claimed_kib: Some(1.0), ..File::new(10, "a.safetensors", Content::generated(7, 5000)) };
    hub.model(1, "LORA", vec![Version::new(100, Access::Missing(2), vec![file])]);
    let listing = describe(&client(&hub, None), "https://civitai.com/api/download/models/100?fileId=10");
    assert_eq!(listing.expect("asked again").files[0].size_bytes, 5000, "the storage knows the true size");
}

#[test]
fn contents_are_known_by_their_hash() {
    let hub = FakeCivitai::start();
    let contents: Vec<Content> = (0..230).map(|number| Content::generated(number, 500 + number)).collect();
    for (number, content) in contents.iter().enumerate().filter(|(number, _)| number % 2 == 0) {
        let number = number as u64 + 1;
        let file = File::new(number * 10, "a.safetensors", content.clone());
        hub.model(number, "Checkpoint", vec![Version::new(number * 100, Access::Public, vec![file])]);
    }
    let sha256s: Vec<Digest> = contents.iter().map(|it| Digest::parse(it.sha256()).expect("64 digits")).collect();
    let client = client(&hub, None);
    let known = run(client.known(Source::Civitai, &sha256s)).expect("answered");
    assert_eq!(known.len(), 115);
    assert_eq!(hub.origins.asks().len(), 3, "a hundred in each question");
    let choice = FileChoice { id: Some(10), ..FileChoice::default() };
    assert_eq!(known[0].locator, Locator::Civitai { model: Some(1), version: Some(100), choice });
    assert_eq!(
        (known[0].sha256, known[0].folders.as_slice()),
        (sha256s[0], &["SD 1.5".to_owned(), "checkpoints".to_owned()][..])
    );
    let listing = run(client.describe_by_hash(Source::Civitai, sha256s[2])).expect("answered").expect("known");
    assert_eq!((listing.repo.as_str(), listing.files.len()), ("3", 1));
    assert_eq!(run(client.describe_by_hash(Source::Civitai, sha256s[1])), Ok(None));
}
