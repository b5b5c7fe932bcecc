//! What hubs know about models: asked in few requests, kept for good, and never above what a person said.

mod support;

use serde_json::{Value, json};
use std::time::{Duration, Instant};
use support::fake_civitai::{Access, FakeCivitai, File, Trouble, Version};
use support::fake_hub::FakeHub;
use support::mounted::{Finished, Fuse, Sandbox, fuse_or_skip, modelfs_xattr, walk};
use support::tiny::lora;

const KEY: &str = "civitai_secret_key";
/// Longer than any wait of these tests: whoever waits for it was not stopped.
const FOREVER: &str = "1h";

fn sandbox_for(hub: &FakeCivitai) -> Sandbox {
    let mut sandbox = Sandbox::new();
    sandbox.set("MODELFS_CIVITAI_ENDPOINT", &hub.origins.endpoint()).set("CIVITAI_API_KEY", KEY);
    sandbox.set("MODELFS_ENRICH_SPACING", "0s");
    sandbox
}

fn import(sandbox: &Sandbox, numbers: impl IntoIterator<Item = u64>) {
    for number in numbers {
        sandbox.write(format!("in/{number}.safetensors"), lora(number));
    }
    sandbox.run(["import", "in"]).success();
}

/// A model of one version with one file each; numbers of the three are alike.
fn publish(hub: &FakeCivitai, numbers: impl IntoIterator<Item = u64>) {
    for number in numbers {
        let file = File::new(number, &format!("{number}.safetensors"), lora(number));
        hub.model(number, "LORA", vec![Version::new(1000 + number, Access::Login, vec![file])]);
    }
}

fn enrich(sandbox: &Sandbox, more: &[&str]) -> Value {
    sandbox.run(["enrich", "--json"].iter().chain(more)).success().json()
}

fn counts(done: &Value) -> [u64; 5] {
    ["known", "unknown", "gone", "skipped", "left"].map(|key| done[key].as_u64().expect("a number"))
}

#[test]
fn a_thousand_files_take_a_dozen_requests_and_then_none() {
    let hub = FakeCivitai::start();
    let mut sandbox = sandbox_for(&hub);
    let spacing = Duration::from_millis(40);
    sandbox.set("MODELFS_ENRICH_SPACING", "40ms");
    import(&sandbox, 1..=1000);
    // Files that the hub does not have; files that a mirror is asked about; files that it has, all at once.
    let requests = |more: &[&str], expected: [u64; 5]| {
        hub.origins.forget();
        let done = enrich(&sandbox, more);
        assert_eq!(counts(&done), expected, "{done}");
        let asks = hub.origins.asks();
        assert_eq!(done["requests"].as_u64(), Some(asks.len() as u64), "what it tells is what was asked");
        let gaps = asks.windows(2).map(|pair| pair[1].arrived - pair[0].arrived);
        assert!(gaps.min().is_none_or(|least| least >= spacing), "asked faster than {spacing:?}");
        asks.len()
    };
    assert_eq!(requests(&[], [0, 1000, 0, 0, 0]), 1);
    assert_eq!(requests(&[], [0, 0, 0, 1000, 0]), 0, "that they are unknown is remembered");
    publish(&hub, 1..=1000);
    let all = requests(&["--again"], [1000, 0, 0, 0, 0]);
    assert!(all <= 12, "{all} requests");
    assert_eq!(requests(&[], [0, 0, 0, 1000, 0]), 0);
    hub.without("ids").without("models");
    let by_hash = requests(&["--again"], [1000, 0, 0, 0, 0]);
    assert!(by_hash <= 12, "{by_hash} requests");
}

#[test]
fn that_a_model_is_unknown_is_believed_for_a_while() {
    let hub = FakeCivitai::start();
    let mut sandbox = sandbox_for(&hub);
    import(&sandbox, [1]);
    assert_eq!(counts(&enrich(&sandbox, &[])), [0, 1, 0, 0, 0]);
    publish(&hub, [1]);
    assert_eq!(counts(&enrich(&sandbox, &[])), [0, 0, 0, 1, 0]);
    sandbox.set("MODELFS_ENRICH_UNKNOWN_FOR", "0s");
    assert_eq!(counts(&enrich(&sandbox, &[])), [1, 0, 0, 0, 0]);
    assert_eq!(counts(&enrich(&sandbox, &[])), [0, 0, 0, 1, 0], "what is known is not asked again");
}

#[test]
fn what_a_hub_tells_is_kept_found_and_shown() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let hub = FakeCivitai::start();
    let file = File::new(5, "style.safetensors", lora(1));
    hub.key(KEY).model(12, "LORA", vec![Version { base: "SD 1.5 LCM", ..Version::new(34, Access::Login, vec![file]) }]);
    let sandbox = sandbox_for(&hub);
    import(&sandbox, [1]);
    sandbox.run(["tag", "1", "+mine", "-sun"]).success();
    let mount = sandbox.mount(&[]);
    let done = enrich(&sandbox, &[]);
    let mut told = done["models"][0].clone();
    assert!(told["asked"].take().as_str().is_some_and(|time| time.ends_with('Z')), "{done}");
    let expected = json!({
        "id": 1, "name": "1.safetensors", "outcome": "known", "source": "civitai", "asked": null, "gone": null,
        "url": "https://civitai.com/models/12?modelVersionId=34", "title": "A model", "version": "v34",
        "description": "Light & warmth for every picture", "type": "LORA", "base_models": ["SD 1.5 LCM"],
        "creator": "painter", "tags": ["style", "sun"], "trigger_words": ["sunlit style", "sunlit", "glow"],
        "license": "commercial use: Image RentCivit; credit required; derivatives allowed",
        "license_flags": { "commercial_use": "Image,RentCivit", "no_credit": "false", "derivatives": "true" },
        "statistics": { "likes": 3 }, "nsfw": false, "published": "2026-01-02T03:04:05.000Z",
        "previews": ["https://image.civitai.com/k/34/original=true/1.jpeg", "https://image-b2.civitai.com/x/34.jpeg"],
    });
    assert_eq!(told, expected, "{told}");
    assert_eq!(counts(&done), [1, 0, 0, 0, 0], "{done}");

    let info = sandbox.run(["info", "--json", "1"]).success().json();
    assert_eq!((info["type"].as_str(), info["base"].as_str()), (Some("lora"), Some("sd1")), "{info}");
    assert_eq!((info["sub_type"].as_str(), info["creator"].as_str()), (Some("lcm"), Some("painter")), "{info}");
    assert_eq!(info["tags"], json!(["mine", "style"]), "a tag that a person took away stays away");
    assert_eq!(info["trigger_words"], json!(["sunlit style", "sunlit", "glow"]), "{info}");
    assert_eq!(info["hubs"][0]["name"].as_str(), Some("A model"), "{info}");
    let origins = info["sources"].as_array().expect("a list");
    assert!(origins.iter().all(|origin| origin["source"] == "local"), "a file of one's own is never evicted: {info}");
    let text = sandbox.run(["info", "1"]).success().stdout;
    assert!(text.contains("civitai: https://civitai.com/models/12?modelVersionId=34"), "{text}");
    for query in ["warmth", "\"a model\"", "creator:painter", "tag:style", "glow", "license:commercial"] {
        let found = sandbox.run(["ls", "--json", query]).success().json();
        assert_eq!(found.as_array().map(Vec::len), Some(1), "{query}");
    }
    let shown = mount.path("by/creator/painter/1.safetensors");
    let deadline = Instant::now() + Duration::from_secs(10);
    while !shown.exists() {
        assert!(Instant::now() < deadline, "the mount does not follow");
        std::thread::yield_now();
    }
    for (name, value) in [
        ("creator", "painter"),
        ("tags", "mine,style"),
        ("trigger_words", "sunlit style,sunlit,glow"),
        ("license", "commercial use: Image RentCivit; credit required; derivatives allowed"),
    ] {
        assert_eq!(modelfs_xattr(&shown, name).as_deref(), Some(value), "{name}");
    }
    mount.unmount();

    // Nothing of a key or of a signature is anywhere in the store.
    for file in walk(&sandbox.store()) {
        let bytes = std::fs::read(sandbox.store().join(&file)).expect("readable");
        for secret in [KEY, "3_secret_signature"] {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret} is in {file}");
        }
    }
    sandbox.run(["verify"]).success();
}

#[test]
fn tensors_and_people_stand_above_a_hub() {
    let hub = FakeCivitai::start();
    let file = |number: u64| File::new(number, "x.safetensors", lora(number));
    // Its tensors are those of a LoRA for SD 1.5, whatever the page says.
    hub.model(1, "Checkpoint", vec![Version { base: "Pony", ..Version::new(11, Access::Login, vec![file(1)]) }]);
    hub.model(2, "LORA", vec![Version { base: "SD 1.5 Hyper", ..Version::new(12, Access::Login, vec![file(2)]) }]);
    let sandbox = sandbox_for(&hub);
    import(&sandbox, [1]);
    sandbox.write("in/2.safetensors", lora(2));
    sandbox.run(["import", "in"]).success();
    sandbox.run(["classify", "--set", "embedding/flux1", "2"]).success();
    assert_eq!(counts(&enrich(&sandbox, &[])), [2, 0, 0, 0, 0]);
    let what = |id: &str| {
        let info = sandbox.run(["info", "--json", id]).success().json();
        ["type", "base", "sub_type", "method"].map(|key| info[key].as_str().unwrap_or_default().to_owned())
    };
    let check = |when: &str| {
        assert_eq!(what("1")[..2], ["lora", "sd1"], "{when}");
        assert_eq!(what("2"), ["embedding", "flux1", "", "manual"], "{when}");
    };
    check("after the answer");
    let again = sandbox.run(["classify", "--json"]).success().json();
    assert_eq!(again["changes"], json!([]), "judging again knows what the hub said: {again}");
    check("judged again");
    let explained = sandbox.run(["classify", "--explain", "--json", "2"]).success().json();
    let reasons = explained[0]["reasons"].as_array().expect("a list").iter();
    let by_hub: Vec<&str> = reasons.filter(|it| it["method"] == "hub").filter_map(|it| it["rule"].as_str()).collect();
    assert_eq!(by_hub, ["hub-civitai-type-lora", "hub-civitai-base-sd-1-5-hyper"], "{explained}");
    sandbox.run(["classify", "--unset", "2"]).success();
    assert_eq!(what("2")[..3], ["lora", "sd1", "hyper"]);
}

#[test]
fn a_request_that_fails_touches_nothing_else() {
    let cases = [
        (Trouble::Unauthorized, 3, "refused the token"),
        (Trouble::Forbidden, 3, "does not allow"),
        (Trouble::Firewall, 5, "sent a text/html page"),
        (Trouble::Page, 5, "sent a text/html page"),
        (Trouble::HalfJson, 5, "cannot be understood"),
        (Trouble::Null, 5, "cannot be understood"),
        (Trouble::WrongTypes, 5, "cannot be understood"),
        (Trouble::Overloaded, 5, "answered 503"),
        (Trouble::TooMany(3600), 6, "come back later"),
    ];
    for (trouble, code, told) in cases {
        let hub = FakeCivitai::start();
        publish(&hub, [1]);
        let sandbox = sandbox_for(&hub);
        import(&sandbox, [1, 2]);
        let before = sandbox.run(["info", "--json", "1"]).success().json();
        hub.trouble(&[trouble]);
        let failed = sandbox.run(["enrich", "--json"]).code(code);
        let done = failed.json();
        assert_eq!(counts(&done), [0, 0, 0, 0, 2], "{trouble:?}: {done}");
        assert_eq!(done["failures"].as_array().map(Vec::len), Some(1), "{trouble:?}: {done}");
        assert!(failed.stderr.contains(told) && failed.stderr.contains("civitai"), "{trouble:?}: {}", failed.stderr);
        assert!(!failed.stderr.contains(KEY), "{}", failed.stderr);
        assert_eq!(sandbox.run(["info", "--json", "1"]).success().json(), before, "{trouble:?}");
        assert_eq!(counts(&enrich(&sandbox, &[])), [1, 1, 0, 0, 0], "{trouble:?}: asked the next time");
    }
}

#[test]
fn a_hub_that_asks_for_a_pause_gets_one() {
    let hub = FakeCivitai::start();
    publish(&hub, [1]);
    let sandbox = sandbox_for(&hub);
    import(&sandbox, [1]);
    hub.trouble(&[Trouble::TooMany(1)]);
    assert_eq!(counts(&enrich(&sandbox, &[])), [1, 0, 0, 0, 0]);
    let asks = hub.origins.asks();
    assert!(asks.len() == 3 && asks[1].arrived - asks[0].arrived >= Duration::from_secs(1), "{} asks", asks.len());
}

#[test]
fn a_portion_that_fails_leaves_the_others() {
    let hub = FakeCivitai::start();
    hub.without("ids");
    publish(&hub, 1..=250);
    let sandbox = sandbox_for(&hub);
    import(&sandbox, 1..=250);
    hub.origins.forget();
    // After the question that it does not have and the first hundred.
    hub.trouble_after(2, &[Trouble::HalfJson]);
    let done = sandbox.run(["enrich", "--json"]).code(5).json();
    assert_eq!(counts(&done), [150, 0, 0, 0, 100], "{}", done["failures"]);
    assert_eq!(counts(&enrich(&sandbox, &[])), [100, 0, 0, 150, 0]);
}

#[test]
fn what_is_gone_from_a_hub_is_kept() {
    let hub = FakeCivitai::start();
    publish(&hub, [1]);
    let sandbox = sandbox_for(&hub);
    import(&sandbox, [1]);
    assert_eq!(counts(&enrich(&sandbox, &[])), [1, 0, 0, 0, 0]);
    let facts = |info: &Value| ["creator", "tags", "trigger_words", "license"].map(|key| info[key].clone());
    let before = sandbox.run(["info", "--json", "1"]).success().json();
    hub.mode(1, "Archived");
    assert_eq!(counts(&enrich(&sandbox, &["--again"])), [1, 0, 0, 0, 0], "an archived page still tells");
    hub.remove(1);
    let done = enrich(&sandbox, &["--again"]);
    assert_eq!(counts(&done), [0, 0, 1, 0, 0], "{done}");
    assert_eq!(done["models"][0]["title"].as_str(), Some("A model"), "{done}");
    let after = sandbox.run(["info", "--json", "1"]).success().json();
    assert_eq!(facts(&after), facts(&before));
    assert!(after["hubs"][0]["gone"].is_string() && before["hubs"][0]["gone"].is_null(), "{after}");
    let text = sandbox.run(["enrich", "--again"]).success().stdout;
    assert!(text.contains("no longer at civitai"), "{text}");
    publish(&hub, [1]);
    assert_eq!(counts(&enrich(&sandbox, &["--again"])), [1, 0, 0, 0, 0], "and is there again");
    let again = sandbox.run(["info", "--json", "1"]).success().json();
    assert!(again["hubs"][0]["gone"].is_null(), "{again}");
}

/// The same tensors behind another header.
fn edited(number: u64, key: &str) -> Vec<u8> {
    let bytes = lora(number);
    let length = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
    let (header, data) = bytes[8..].split_at(usize::try_from(length).expect("small"));
    let mut header: Value = serde_json::from_slice(header).expect("JSON");
    header["__metadata__"][key] = json!("changed");
    let header = header.to_string().into_bytes();
    [&(header.len() as u64).to_le_bytes(), &header[..], data].concat()
}

#[test]
fn a_file_whose_header_was_edited_is_known_by_its_tensors() {
    let hub = FakeCivitai::start();
    publish(&hub, [1, 2]);
    let sandbox = sandbox_for(&hub);
    sandbox.write("edited.safetensors", edited(1, "ssmd_display_name"));
    sandbox.write("other.safetensors", edited(2, "ss_training_comment"));
    sandbox.write("own.safetensors", edited(3, "ssmd_display_name"));
    for file in ["edited.safetensors", "other.safetensors", "own.safetensors"] {
        sandbox.run(["import", file]).success();
    }
    assert_eq!(counts(&enrich(&sandbox, &[])), [1, 2, 0, 0, 0]);
    let asked = |path: &str| hub.origins.asks().iter().filter(|ask| ask.path.contains(path)).count();
    assert_eq!(asked("/by-hash/") - asked("/by-hash/ids"), 2, "only where the header says that it was edited");
    let info = sandbox.run(["info", "--json", "edited.safetensors"]).success().json();
    assert_eq!(info["creator"], json!(null), "a version alone does not say whose it is: {info}");
    assert_eq!(info["hubs"][0]["name"].as_str(), Some("A model"), "{info}");
    hub.origins.forget();
    assert_eq!(counts(&enrich(&sandbox, &[])), [0, 0, 0, 3, 0]);
    assert_eq!(counts(&enrich(&sandbox, &["other.safetensors", "own.safetensors"])), [1, 0, 0, 1, 0], "it was named");
    assert_eq!(hub.origins.asks().len(), 1);
    // A file with the tensors of one that is known needs no request of its own.
    sandbox.write("twin.safetensors", edited(2, "note"));
    sandbox.run(["import", "twin.safetensors"]).success();
    hub.origins.forget();
    assert_eq!(counts(&enrich(&sandbox, &[])), [1, 0, 0, 3, 0]);
    assert_eq!(hub.origins.asks().len(), 1);
}

#[test]
fn what_is_gone_is_gone_for_every_file_with_its_tensors() {
    let hub = FakeCivitai::start();
    publish(&hub, [1]);
    let sandbox = sandbox_for(&hub);
    sandbox.write("one.safetensors", lora(1));
    sandbox.write("twin.safetensors", edited(1, "note"));
    for file in ["one.safetensors", "twin.safetensors"] {
        sandbox.run(["import", file]).success();
    }
    assert_eq!(counts(&enrich(&sandbox, &[])), [1, 1, 0, 0, 0]);
    assert_eq!(counts(&enrich(&sandbox, &["--again"])), [2, 0, 0, 0, 0], "one speaks for the other");
    hub.remove(1);
    assert_eq!(counts(&enrich(&sandbox, &["--again"])), [0, 0, 2, 0, 0], "neither speaks for the other");
    publish(&hub, [1]);
    assert_eq!(counts(&enrich(&sandbox, &["--again"]))[2], 1, "the one that is asked about first");
    assert_eq!(counts(&enrich(&sandbox, &["--again"])), [2, 0, 0, 0, 0], "both are there again");
}

#[test]
fn a_question_about_tensors_that_fails_is_left_for_the_next_time() {
    let hub = FakeCivitai::start();
    publish(&hub, [1]);
    let sandbox = sandbox_for(&hub);
    sandbox.write("other.safetensors", edited(1, "note"));
    sandbox.run(["import", "other.safetensors"]).success();
    assert_eq!(counts(&enrich(&sandbox, &[])), [0, 1, 0, 0, 0]);
    for (trouble, code) in [(Trouble::HalfJson, 5), (Trouble::TooMany(3600), 6)] {
        hub.trouble(&[trouble]);
        let done = sandbox.run(["enrich", "--json", "other.safetensors"]).code(code).json();
        assert_eq!(counts(&done), [0, 0, 0, 0, 1], "{trouble:?}: {done}");
    }
    assert_eq!(counts(&enrich(&sandbox, &["other.safetensors"])), [1, 0, 0, 0, 0]);
}

#[test]
fn stopped_at_any_moment_it_goes_on_where_it_was() {
    let hub = FakeCivitai::start();
    publish(&hub, [1]);
    let mut sandbox = sandbox_for(&hub);
    import(&sandbox, [1, 2, 3]);
    sandbox.set("MODELFS_ENRICH_SPACING", FOREVER);
    let mut running = sandbox.start(sandbox.command(["enrich", "--json"]));
    let deadline = Instant::now() + Duration::from_secs(60);
    while hub.origins.asks().is_empty() {
        assert!(Instant::now() < deadline, "nothing was asked\n{}", running.stderr());
        std::thread::yield_now();
    }
    // It now waits for its turn to ask what is known of the first.
    running.signal(libc::SIGINT);
    let status = running.wait_at_most(Duration::from_secs(60)).expect("it ends");
    assert_eq!(status.code(), Some(130), "{}", running.stderr());
    sandbox.set("MODELFS_ENRICH_SPACING", "0s");
    let done = enrich(&sandbox, &[]);
    let [known, unknown, _, skipped, _] = counts(&done);
    assert_eq!((known, unknown + skipped), (1, 2), "{done}");
}

#[test]
fn a_repository_at_hugging_face_is_asked_once() {
    let hub = FakeHub::start();
    let civitai = FakeCivitai::start();
    let repo =
        hub.repo("org/name").tag("lora").tag("license:openrail").tag("base_model:stabilityai/stable-diffusion-v1-5");
    repo.lfs("a.safetensors", lora(1)).lfs("b.safetensors", lora(2));
    let mut sandbox = sandbox_for(&civitai);
    sandbox.set("HF_ENDPOINT", &hub.endpoint());
    sandbox.run(["add", "hf:org/name"]).success();
    hub.forget_requests();
    let done = enrich(&sandbox, &[]);
    assert_eq!(counts(&done), [2, 2, 0, 0, 0], "{done}");
    assert_eq!(hub.requests().len(), 1);
    let info = sandbox.run(["info", "--json", "a.safetensors"]).success().json();
    assert_eq!((info["license"].as_str(), info["creator"].as_str()), (Some("openrail"), Some("org")), "{info}");
    let told = &info["hubs"][0];
    assert_eq!(told["base_models"], json!(["stabilityai/stable-diffusion-v1-5"]), "{info}");
    assert_eq!((told["source"].as_str(), told["statistics"]["downloads"].as_u64()), (Some("huggingface"), Some(1234)));
    assert_eq!(counts(&enrich(&sandbox, &[])), [0, 0, 0, 2, 0]);
    assert_eq!(hub.requests().len(), 1);
}

#[test]
fn nobody_is_asked_offline_or_about_nothing() {
    let hub = FakeCivitai::start();
    let sandbox = sandbox_for(&hub);
    sandbox.run(["enrich"]).code(4);
    import(&sandbox, [1]);
    let offline: Finished = sandbox.run(["--offline", "enrich"]).code(5);
    assert!(offline.stderr.contains("network is switched off"), "{}", offline.stderr);
    let missing = sandbox.run(["enrich", "nothing.safetensors"]).code(4);
    assert!(missing.stderr.contains("nothing.safetensors"), "{}", missing.stderr);
    assert!(hub.origins.asks().is_empty());
    let done = sandbox.run(["enrich"]).success();
    assert_eq!(done.stdout, "0 known, 1 not known; 1 request\n");
}

/// What hubs say about the first model, once there is something.
fn told_in_the_end(sandbox: &Sandbox) -> Value {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let info = sandbox.run(["info", "--json", "1"]).success().json();
        if info["hubs"].as_array().is_some_and(|hubs| !hubs.is_empty()) {
            return info;
        }
        let log = std::fs::read_to_string(sandbox.store().join("enrich.log")).unwrap_or_default();
        assert!(Instant::now() < deadline, "nobody asked\n{log}");
        std::thread::yield_now();
    }
}

#[test]
fn what_was_imported_is_asked_about_in_the_background() {
    let hub = FakeCivitai::start();
    publish(&hub, [1]);
    let mut sandbox = sandbox_for(&hub);
    sandbox.unset("MODELFS_ENRICH_AFTER_IMPORT");
    sandbox.write("in/1.safetensors", lora(1));
    let imported = sandbox.run(["import", "in"]).success();
    assert!(imported.stderr.contains("in the background"), "{}", imported.stderr);
    assert_eq!(told_in_the_end(&sandbox)["creator"].as_str(), Some("painter"));
    let again = sandbox.run(["import", "in"]).success();
    assert!(!again.stderr.contains("in the background"), "nothing is new: {}", again.stderr);
}

#[test]
fn an_import_asks_nobody_where_that_is_forbidden() {
    let hub = FakeCivitai::start();
    let mut sandbox = sandbox_for(&hub);
    for (number, (variable, value)) in
        [("MODELFS_ENRICH_AFTER_IMPORT", "0"), ("MODELFS_OFFLINE", "1"), ("HF_HUB_OFFLINE", "1")].iter().enumerate()
    {
        sandbox.unset("MODELFS_ENRICH_AFTER_IMPORT").set(variable, value);
        sandbox.write(format!("in/{number}.safetensors"), lora(number as u64));
        let imported = sandbox.run(["import", "in"]).success();
        assert!(!imported.stderr.contains("in the background"), "{variable}: {}", imported.stderr);
        sandbox.unset(variable);
    }
    assert!(!sandbox.store().join("enrich.lock").exists(), "a process was started");
    assert!(hub.origins.asks().is_empty());
}

#[test]
fn an_import_waits_for_no_hub() {
    // It takes connections and never says a word.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let endpoint = format!("http://{}", silent.local_addr().expect("bound"));
    let mut sandbox = Sandbox::new();
    sandbox.unset("MODELFS_ENRICH_AFTER_IMPORT").set("MODELFS_CIVITAI_ENDPOINT", &endpoint);
    import(&sandbox, [1]);
    // The question comes, and nobody has answered it although the import is done.
    let (mut connection, _) = silent.accept().expect("somebody asks");
    let mut start = [0; 5];
    std::io::Read::read_exact(&mut connection, &mut start).expect("a question");
    assert_eq!(&start, b"POST ");
    assert_eq!(sandbox.run(["ls", "--json"]).success().json().as_array().map(Vec::len), Some(1));
}
