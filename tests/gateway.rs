//! One search over this store and three hubs of this machine, and what a user of such a gateway does with its rows.

mod support;

use serde_json::Value;
use std::collections::BTreeSet;
use std::net::TcpListener;
use std::time::{Duration, Instant};
use support::fake_civitai::{Access, Facts, FakeCivitai, File, Version};
use support::fake_hub::{Content, FakeHub, Fault, Place, Rule};
use support::fake_modelscope::{self, FakeModelScope};
use support::mounted::{Fuse, Sandbox, eventually, fuse_or_skip};
use support::tiny::{large_lora, lora};

/// Longer than any hub is waited for, and much shorter than all of them one after the other.
const ANSWER_MAX: Duration = Duration::from_secs(14);
const DONE_MAX: Duration = Duration::from_secs(60);
const MIB: usize = 1 << 20;

struct Hubs {
    face: FakeHub,
    civitai: FakeCivitai,
    scope: FakeModelScope,
}

impl Hubs {
    fn start() -> Self {
        Self { face: FakeHub::start(), civitai: FakeCivitai::start(), scope: FakeModelScope::start() }
    }

    fn sandbox(&self) -> Sandbox {
        let mut sandbox = Sandbox::new();
        sandbox
            .set("HF_ENDPOINT", &self.face.endpoint())
            .set("MODELFS_CIVITAI_ENDPOINT", &self.civitai.origins.endpoint())
            .set("MODELSCOPE_ENDPOINT", &self.scope.origins.endpoint());
        sandbox.run(["init"]).success();
        sandbox
    }

    fn civitai_model(&self, id: u64, kind: &'static str, facts: &Facts) {
        let file = File::new(id * 100, &format!("{id}.safetensors"), Content::generated(id, 5000 + id));
        self.civitai.model(id, kind, vec![Version::new(id * 10, Access::Public, vec![file])]).facts(id, facts);
    }
}

fn facts(name: &str) -> Facts {
    Facts { name: name.to_owned(), ..Facts::default() }
}

fn ids(rows: &Value) -> Vec<String> {
    let rows = rows.as_array().expect("an array").iter();
    rows.map(|row| row["id"].as_str().map_or_else(|| row["id"].to_string(), str::to_owned)).collect()
}

fn search(sandbox: &Sandbox, query: &str, source: &str) -> Value {
    sandbox.run(["search", query, "--source", source, "--json"]).success().json()
}

#[test]
fn civitai_is_searched_with_the_same_words() {
    let hubs = Hubs::start();
    hubs.civitai_model(1, "LORA", &Facts { downloads: Some(5), likes: 1, ..facts("Anime glow") });
    hubs.civitai_model(2, "LoCon", &Facts { downloads: Some(50), likes: 9, ..facts("Anime lines") });
    hubs.civitai_model(3, "Checkpoint", &Facts { creator: "smith", tags: vec!["noir"], ..facts("Anime base") });
    hubs.civitai_model(4, "DoRA", &Facts { nsfw_level: 16, ..facts("Anime night") });
    hubs.civitai_model(5, "LORA", &facts("Landscape"));
    hubs.civitai_model(6, "LORA", &facts("Anime of old"));
    hubs.civitai.mode(6, "Archived");
    let sandbox = hubs.sandbox();
    for (query, expected) in [
        ("anime", &["civitai:2@20", "civitai:3@30", "civitai:1@10"][..]),
        ("anime glow", &["civitai:1@10"]),
        ("anime type:lora", &["civitai:1@10"]),
        ("anime type:lora|lycoris sort:downloads", &["civitai:2@20", "civitai:1@10"]),
        ("anime creator:smith", &["civitai:3@30"]),
        ("anime creator:nobody", &[]),
        ("tag:noir", &["civitai:3@30"]),
        ("anime tag:unheard-of", &[]),
        ("anime nsfw:true", &["civitai:4@40"]),
        ("anime nsfw:false base:sd1 format:gguf", &[]),
        ("base:sd1 size<5003", &["civitai:2@20", "civitai:1@10"]),
        ("anime -lines license:\"commercial use: image\"", &["civitai:3@30", "civitai:1@10"]),
        ("sort:name", &["civitai:3@30", "civitai:1@10", "civitai:2@20", "civitai:5@50"]),
    ] {
        assert_eq!(ids(&search(&sandbox, query, "civitai")), expected, "{query}");
    }
    let rows = search(&sandbox, "anime lines", "civitai");
    let row = &rows[0];
    assert_eq!(
        (row["name"].as_str(), row["type"].as_str(), row["base"].as_str()),
        (Some("Anime lines"), Some("lycoris"), Some("sd1")),
        "{row}"
    );
    assert_eq!(
        (row["downloads"].as_u64(), row["likes"].as_u64(), row["size"].as_u64()),
        (Some(50), Some(9), Some(5002)),
        "{row}"
    );
    assert_eq!(row["files"][0]["sha256"].as_str(), Some(Content::generated(2, 5002).sha256()), "{row}");
    assert_eq!(row["thumbnail"].as_str(), Some("https://image.civitai.com/k/20/width=450/1.jpeg"), "{row}");
    assert_eq!(
        (row["here"].as_bool(), row["nsfw"].as_bool(), row["nsfw_level"].as_u64()),
        (Some(false), Some(false), Some(1)),
        "{row}"
    );
    assert_eq!(row["updated"].as_str(), Some("2026-01-02T03:04:05Z"), "{row}");
    let table = sandbox.run(["search", "anime", "--source", "civitai"]).success();
    assert!(table.stdout.contains("civitai:2@20") && table.stdout.contains("Anime lines"), "{table:?}");
    hubs.civitai.overload(1);
    assert_eq!(search(&sandbox, "anime", "civitai").as_array().map(Vec::len), Some(3), "a short pause is waited for");
}

#[test]
fn modelscope_is_searched_with_the_same_words() {
    let hubs = Hubs::start();
    let facts = |tags: &[&'static str], downloads| fake_modelscope::Facts {
        tags: tags.to_vec(),
        downloads,
        ..fake_modelscope::Facts::default()
    };
    for (repo, tags, downloads) in [
        ("ann/anime-one", &["lora", "library:safetensors"][..], 3),
        ("ann/anime-two", &["art", "library:gguf"], 30),
        ("bob/anime-sdxl", &["lora"], 7),
        ("bob/other", &["lora"], 9),
    ] {
        hubs.scope
            .large(repo, "a.safetensors", Content::generated(downloads, 5000))
            .facts(repo, facts(tags, downloads));
    }
    let sandbox = hubs.sandbox();
    for (query, expected) in [
        ("anime", &["modelscope:ann/anime-one", "modelscope:ann/anime-two", "modelscope:bob/anime-sdxl"][..]),
        (
            "anime sort:downloads",
            &["modelscope:ann/anime-two", "modelscope:bob/anime-sdxl", "modelscope:ann/anime-one"],
        ),
        ("anime type:lora", &["modelscope:ann/anime-one", "modelscope:bob/anime-sdxl"]),
        ("anime base:sdxl", &["modelscope:bob/anime-sdxl"]),
        ("format:gguf", &["modelscope:ann/anime-two"]),
        ("tag:art creator:ann license:apache", &["modelscope:ann/anime-two"]),
        ("license:mit", &[]),
        ("anime -two size<1MB limit:1", &["modelscope:ann/anime-one"]),
    ] {
        assert_eq!(ids(&search(&sandbox, query, "modelscope")), expected, "{query}");
    }
    let rows = search(&sandbox, "anime-two", "modelscope");
    let row = &rows[0];
    assert_eq!(
        (row["creator"].as_str(), row["license"].as_str(), row["size"].as_u64()),
        (Some("ann"), Some("apache-2.0"), Some(5000)),
        "{row}"
    );
}

#[test]
fn nonsense_of_one_hub_is_the_failure_of_that_hub() {
    let hubs = Hubs::start();
    hubs.face.repo("ann/anime").tag("lora");
    hubs.civitai_model(1, "LORA", &facts("Anime"));
    hubs.scope.large("ann/anime", "a.safetensors", Content::generated(1, 5000));
    let sandbox = hubs.sandbox();
    let row = r#"{"id":1,"modelVersions":[{"id":2,"files":[]}]}"#;
    for (body, is_told) in [
        ("", true),
        ("{\"items\":", true),
        ("null", true),
        ("[]", true),
        ("{\"items\":{\"id\":1}}", true),
        ("{\"items\":[null,7,\"x\"]}", true),
        (&format!("{{\"items\":[{}]}}", [row; 10_000].join(",")), true),
        (&"[".repeat(100_000), true),
        ("{\"items\":[{\"id\":null,\"modelVersions\":7}],\"metadata\":null}", false),
        ("{\"items\":[],\"metadata\":{\"nextCursor\":{}}}", false),
    ] {
        hubs.civitai.search_body(body);
        let shown = &body[..body.len().min(60)];
        let answer = sandbox.run(["search", "anime", "--source", "all", "--json"]).success();
        assert_eq!(ids(&answer.json()), ["hf:ann/anime", "modelscope:ann/anime"], "{shown}");
        assert_eq!(answer.stderr.contains("warning: civitai: "), is_told, "{shown}: {}", answer.stderr);
        assert!(answer.stderr.len() < 500, "{shown}: {}", answer.stderr);
    }
    hubs.scope.search_body("{\"success\":true,\"data\":{\"models\":\"none\"}}");
    hubs.face.fault(Fault::Status(502));
    let answer = sandbox.run(["search", "anime", "--source", "all", "--json"]).success();
    assert_eq!(ids(&answer.json()), [""; 0]);
    for hub in ["huggingface", "modelscope"] {
        assert!(answer.stderr.contains(&format!("warning: {hub}: ")), "{}", answer.stderr);
    }
}

#[test]
fn a_hub_that_hangs_holds_up_nobody() {
    let mut hubs = Hubs::start();
    hubs.face.repo("ann/anime").tag("lora");
    hubs.scope.large("ann/anime-lines", "a.safetensors", Content::generated(1, 5000));
    let mut sandbox = hubs.sandbox();
    sandbox.write("in/anime.safetensors", lora(1));
    sandbox.run(["import", "in"]).success();
    // Connections are taken, and nothing is ever said.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    sandbox.set("MODELFS_CIVITAI_ENDPOINT", &format!("http://{}", silent.local_addr().expect("bound")));
    let start = Instant::now();
    let answer = sandbox.run(["search", "anime", "--source", "all", "--json"]).success();
    assert!(start.elapsed() < ANSWER_MAX, "{:?}", start.elapsed());
    let rows = answer.json();
    assert_eq!(rows[0]["name"].as_str(), Some("anime.safetensors"), "{rows}");
    assert_eq!(ids(&rows)[1..], ["hf:ann/anime", "modelscope:ann/anime-lines"]);
    assert!(answer.stderr.contains("warning: civitai: ") && answer.stderr.contains("in time"), "{}", answer.stderr);
    let alone = sandbox.run(["search", "anime", "--source", "civitai"]).code(5);
    assert!(alone.stderr.contains("in time"), "{}", alone.stderr);
    hubs.face.stop();
    let answer = sandbox.run(["search", "anime", "--source", "huggingface,modelscope", "--json"]).success();
    assert_eq!(ids(&answer.json()), ["modelscope:ann/anime-lines"]);
    assert!(answer.stderr.contains("warning: huggingface: "), "{}", answer.stderr);
}

#[test]
fn a_search_tells_no_hub_the_token_of_another_and_nobody_else_any() {
    const TOKENS: [&str; 3] = ["hf_token_of_one", "civitai_token_of_two", "ms-token-of-three"];
    let hubs = Hubs::start();
    hubs.face.token(TOKENS[0], &[]);
    hubs.civitai.key(TOKENS[1]);
    for number in 1..=3 {
        hubs.face.repo(&format!("ann/anime-{number}"));
        hubs.civitai_model(number, "LORA", &facts("Anime"));
        hubs.scope.large(&format!("bob/anime-{number}"), "a.safetensors", Content::generated(number, 5000));
    }
    let mut sandbox = hubs.sandbox();
    sandbox.set("HF_TOKEN", TOKENS[0]).set("CIVITAI_TOKEN", TOKENS[1]).set("MODELSCOPE_API_TOKEN", TOKENS[2]);
    let answer = sandbox.run(["search", "anime", "--source", "all", "--limit", "2", "--json", "-v"]).success();
    let cursor = answer.stderr.split("--cursor ").nth(1).expect("there is more").trim();
    let hex: Vec<&str> = cursor.split(['.', ',']).collect();
    for token in TOKENS {
        let digits: String = token.bytes().map(|byte| format!("{byte:02x}")).collect();
        assert!(!answer.stdout.contains(token) && !answer.stderr.contains(token), "{answer:?}");
        assert!(hex.iter().all(|part| !part.contains(&digits)), "{cursor}");
    }
    for (asks, token) in [(hubs.civitai.origins.asks(), TOKENS[1]), (hubs.scope.origins.asks(), TOKENS[2])] {
        assert!(!asks.is_empty() && asks.iter().all(|ask| !ask.at_storage && ask.bearer() == Some(token)), "{token}");
        assert!(asks.iter().all(|ask| TOKENS.iter().all(|token| !ask.query.contains(token))));
    }
}

/// Every page until there is no more.
fn pages(sandbox: &Sandbox, arguments: &[&str]) -> Vec<Value> {
    let (mut seen, mut cursor) = (Vec::new(), None::<String>);
    for _ in 0..60 {
        let arguments = ["search", "--json"].iter().chain(arguments).copied();
        let arguments = arguments.chain(cursor.iter().flat_map(|cursor| ["--cursor", cursor.as_str()]));
        let answer = sandbox.run(arguments).success();
        assert!(!answer.stderr.contains("warning"), "{}", answer.stderr);
        cursor = answer.stderr.split("--cursor ").nth(1).map(|rest| rest.trim().to_owned());
        seen.extend(answer.json().as_array().expect("an array").clone());
        if cursor.is_none() {
            return seen;
        }
    }
    panic!("no end after {} rows", seen.len());
}

#[test]
fn page_by_page_every_row_of_all_sources_comes_once() {
    let hubs = Hubs::start();
    let mut expected = BTreeSet::new();
    for number in 1..=11 {
        hubs.face.repo(&format!("ann/anime-{number:02}")).tag(if number % 2 == 0 { "lora" } else { "noir" });
        expected.insert(format!("hf:ann/anime-{number:02}"));
    }
    for number in 1..=14 {
        hubs.civitai_model(number, "LORA", &facts(&format!("Anime {number}")));
        expected.insert(format!("civitai:{number}@{number}0"));
    }
    for number in 1..=5 {
        let repo = format!("bob/anime-{number}");
        hubs.scope.large(&repo, "a.safetensors", Content::generated(100 + number, 5000));
        expected.insert(format!("modelscope:{repo}"));
    }
    let sandbox = hubs.sandbox();
    for (seed, name) in [(1, "anime a"), (2, "anime b"), (3, "anime c")] {
        sandbox.write(format!("in/{name}.safetensors"), lora(seed));
    }
    sandbox.run(["import", "in"]).success();
    for limit in ["1", "4", "50"] {
        let rows = pages(&sandbox, &["anime", "--source", "all", "--limit", limit]);
        let ids = ids(&Value::from(rows));
        let found: BTreeSet<String> = ids.iter().filter(|id| id.contains(':')).cloned().collect();
        assert_eq!(found, expected, "{limit}");
        assert_eq!(ids.len(), expected.len() + 3, "{limit}: no row twice: {ids:?}");
    }
    // A filter that only we can apply leaves holes in the pages.
    let rows = pages(&sandbox, &["anime -1 -noir", "--source", "huggingface,civitai", "--limit", "3"]);
    assert_eq!(ids(&Value::from(rows)).len(), 4 + 8);

    // What is here is a row of this store, and its hub's row is left out.
    sandbox.run(["add", "civitai:7@70", "modelscope:bob/anime-2"]).success();
    let rows = search(&sandbox, "anime", "all");
    let there = ids(&rows);
    assert!(there.contains(&"civitai:7@70".to_owned()), "its file has another name: {there:?}");
    let rows = search(&sandbox, "type:lora", "all");
    assert!(!ids(&rows).contains(&"civitai:7@70".to_owned()), "{rows}");
    let here = search(&sandbox, "anime 7", "civitai");
    assert_eq!((here[0]["here"].as_bool(), here[1]["here"].as_bool()), (Some(true), None), "{here}");
}

#[test]
fn a_gateway_user_searches_adds_and_downloads_from_everywhere() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let hubs = Hubs::start();
    let bytes = |seed| large_lora(seed, 3 * MIB);
    hubs.face.repo("ann/anime-face").tag("lora").lfs("face.safetensors", bytes(1));
    let file = File::new(34, "civitai.safetensors", bytes(2));
    hubs.civitai.model(12, "LORA", vec![Version::new(56, Access::Public, vec![file])]).facts(12, &facts("Anime pages"));
    hubs.scope.large("bob/anime-scope", "scope.safetensors", bytes(3));
    let sandbox = hubs.sandbox();
    sandbox.write("in/anime here.safetensors", lora(4));
    sandbox.run(["import", "in"]).success();

    // 1 to 4: each source alone. 5: all of them.
    for (source, expected) in [
        ("local", "1"),
        ("huggingface", "hf:ann/anime-face"),
        ("civitai", "civitai:12@56"),
        ("modelscope", "modelscope:bob/anime-scope"),
    ] {
        assert_eq!(ids(&search(&sandbox, "anime", source)), [expected]);
    }
    let all = ids(&search(&sandbox, "anime", "all"));
    assert_eq!(all, ["1", "hf:ann/anime-face", "civitai:12@56", "modelscope:bob/anime-scope"]);

    // 6: a row's id is added, and told about. 7: downloaded, from each hub.
    let mount = sandbox.mount(&[]);
    for (reference, name) in [(&all[1], "face"), (&all[2], "civitai"), (&all[3], "scope")] {
        sandbox.run(["add", reference]).success();
        let info = sandbox.run(["info", "--json", &format!("{name}.safetensors")]).success().json();
        assert_eq!((info["state"].as_str(), info["type"].as_str()), (Some("remote"), Some("lora")), "{info}");
        let told = sandbox.run(["fetch", "--json", reference]).success().json();
        assert_eq!(told[0]["state"].as_str(), Some("resident"), "{told}");
    }
    // 8: what is here is complete at once.
    let told = sandbox.run(["--offline", "fetch", "--json", "anime here.safetensors"]).success().json();
    assert_eq!(told[0]["state"].as_str(), Some("resident"), "{told}");

    // 9: a download that is under way tells how far it is.
    hubs.face.repo("ann/slow").lfs("slow.safetensors", large_lora(5, 24 * MIB));
    sandbox.run(["add", "hf:ann/slow"]).success();
    hubs.face.fault(Rule::new(Fault::Stall { after_bytes: MIB as u64 }).at(Place::Bytes));
    let mut fetching = sandbox.start(sandbox.command(["fetch", "slow.safetensors"]));
    eventually("some of it is told to be there", DONE_MAX, || {
        let told = sandbox.run(["ps", "--json"]).success().json();
        let told = &told[0];
        told["name"] == "slow.safetensors"
            && told["size"].as_u64().is_some_and(|size| size > 24 << 20)
            && told["bytes_present"].as_u64().is_some_and(|bytes| bytes > 0)
    });
    hubs.face.clear_faults();
    hubs.face.release();
    assert!(fetching.wait_at_most(DONE_MAX).is_some_and(|status| status.success()), "{}", fetching.stderr());
    let info = sandbox.run(["info", "--json", "slow.safetensors"]).success().json();
    assert_eq!((info["state"].as_str(), &info["bytes_present"]), (Some("resident"), &info["size"]), "{info}");
    mount.unmount();
    sandbox.run(["verify"]).success();
}

#[test]
fn nobody_who_answers_is_a_failure_that_says_why() {
    let mut sandbox = Sandbox::new();
    // Nobody listens there: connections are refused at once.
    for variable in ["HF_ENDPOINT", "MODELFS_CIVITAI_ENDPOINT", "MODELSCOPE_ENDPOINT"] {
        sandbox.set(variable, "http://127.0.0.1:1");
    }
    sandbox.write("in/anime.safetensors", lora(1));
    sandbox.run(["import", "in"]).success();
    for (sources, named) in [
        ("huggingface", &["cannot reach"][..]),
        ("huggingface,civitai", &["no hub answered", "huggingface: cannot reach", "civitai: cannot reach"]),
        ("huggingface,civitai,modelscope", &["modelscope: cannot reach"]),
    ] {
        let told = sandbox.run(["search", "anime", "--source", sources]).code(5).stderr;
        named.iter().for_each(|word| assert!(told.contains(word), "{sources}: {told}"));
    }
    let here = sandbox.run(["search", "anime", "--source", "all"]).success();
    assert!(here.stdout.contains("anime.safetensors"), "{}", here.stdout);
    assert!(here.stderr.contains("civitai: cannot reach"), "{}", here.stderr);
}
