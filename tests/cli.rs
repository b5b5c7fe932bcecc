//! The command line as a user and as a script meet it: whole outputs, exit codes, pipes, JSON, and no token anywhere.
//!
//! Outputs are compared with `tests/snapshots`. After a wanted change: `INSTA_UPDATE=always cargo test --test cli`, then
//! read the difference before it is committed.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use support::fake_hub::{Access, FakeHub, sha256_of};
use support::mounted::{Finished, Fuse, Sandbox, fuse_or_skip, walk};
use support::tiny::{large_lora, lora};

const TOKEN: &str = "hf_TheTokenThatNobodyMaySee";
const REPO: &str = "org/name";

/// Every verb with the verbs below it, as `--help` lists them.
const VERBS: &[&[&str]] = &[
    &[],
    &["init"],
    &["import"],
    &["add"],
    &["fetch"],
    &["ps"],
    &["cancel"],
    &["pin"],
    &["unpin"],
    &["evict"],
    &["mount"],
    &["unmount"],
    &["ls"],
    &["search"],
    &["info"],
    &["classify"],
    &["enrich"],
    &["tag"],
    &["trust"],
    &["untrust"],
    &["rm"],
    &["restore"],
    &["hash"],
    &["app"],
    &["app", "list"],
    &["app", "show"],
    &["app", "enable"],
    &["app", "disable"],
    &["stats"],
    &["verify"],
    &["doctor"],
    &["config"],
    &["config", "path"],
    &["config", "show"],
    &["completions"],
];

/// Verbs that list or tell something, in a store that `stocked` made.
const LISTINGS: &[&[&str]] = &[
    &["ls"],
    &["ls", "type:lora"],
    &["info", "1"],
    &["hash", "in/one.safetensors"],
    &["app", "list"],
    &["app", "show", "comfyui"],
    &["stats"],
    &["verify"],
    &["doctor"],
    &["config", "show"],
];

/// A store with two models, one of them refused company.
fn stocked() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("in/one.safetensors", lora(1));
    sandbox.write("in/two.safetensors", lora(2));
    sandbox.write("again/copy of one.safetensors", lora(1));
    // One after the other, so that each has always the same id.
    sandbox.run(["import", "in/one.safetensors"]).success();
    sandbox.run(["import", "in/two.safetensors"]).success();
    sandbox
}

/// What is different on every machine and at every moment is replaced by a word.
fn stable(sandbox: &Sandbox, text: &str) -> String {
    let root = sandbox.path("").to_str().expect("a plain name").trim_end_matches('/').to_owned();
    text.replace(&root, "[SANDBOX]")
}

const FILTERS: &[(&str, &str)] = &[
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "[TIME]"),
    (r"\d+(\.\d+)? [KMGTP]?i?B( are)? free", "[FREE]$2 free"),
    (r"; \d+m?s( \d+s)?\n", "; [DURATION]\n"),
    (r"process \d+", "process [PID]"),
    (r"127\.0\.0\.1:\d+", "[HUB]"),
    // Blocks are shared where the filesystem of the temporary folder can.
    (r"by (reflink|copy): takes", "by [DEFAULT]: takes"),
    (r"(reflink|copy) (not possible here|0 B|\d+(\.\d+)? KiB)", "[OTHER]"),
    (r"(reflink|copy) +(not possible here|0 B|\d+(\.\d+)? KiB)( +chosen)?\n", "[A MODE]\n"),
];

fn snapshot(sandbox: &Sandbox, name: &str, text: &str) {
    let text = stable(sandbox, text);
    insta::with_settings!({
        filters => FILTERS.to_vec(),
        prepend_module_to_snapshot => false,
        omit_expression => true,
    }, { insta::assert_snapshot!(name, text) });
}

/// A command as it is typed, its exit code and everything that it wrote.
fn told(sandbox: &Sandbox, words: &[&str]) -> String {
    let Finished { status, stdout, stderr, .. } = sandbox.run(words);
    let code = status.code().map_or("a signal".to_owned(), |code| code.to_string());
    let typed: Vec<_> =
        words.iter().map(|word| if word.contains(' ') { format!("'{word}'") } else { (*word).to_owned() }).collect();
    format!("$ modelfs {}\n{stdout}--- stderr\n{stderr}--- exit code {code}\n", typed.join(" "))
}

#[test]
fn help_teaches_every_verb() {
    let sandbox = Sandbox::new();
    for verb in VERBS {
        let help = sandbox.run(verb.iter().copied().chain(["--help"])).success();
        assert_eq!(help.stderr, "");
        let name = if verb.is_empty() { "modelfs".to_owned() } else { verb.join("_") };
        snapshot(&sandbox, &format!("help_{name}"), &help.stdout);
        // Whatever is listed there has its own snapshot.
        for below in commands(&help.stdout) {
            let path: Vec<&str> = verb.iter().copied().chain([below.as_str()]).collect();
            assert!(VERBS.contains(&path.as_slice()), "{path:?} is not in VERBS");
        }
    }
}

fn commands(help: &str) -> Vec<String> {
    help.lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|word| *word != "help")
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_first_day_reads_well() {
    let sandbox = Sandbox::new();
    sandbox.write("in/one.safetensors", lora(1));
    sandbox.write("later/two.safetensors", lora(2));
    sandbox.write("later/copy of one.safetensors", lora(1));
    sandbox.write("in/notes.txt", "no model");
    sandbox.write("in/page.safetensors", "<!DOCTYPE html><html><body>Sign in</body></html>");
    let day: &[(&str, &[&str])] = &[
        ("init", &["init"]),
        ("init_again", &["init"]),
        ("ls_empty", &["ls"]),
        ("import_dry_run", &["import", "--dry-run", "in"]),
        ("import", &["import", "in"]),
        ("import_again", &["import", "in"]),
        ("import_more", &["import", "--mode", "link", "later"]),
        ("import_quiet", &["-q", "import", "in/one.safetensors"]),
        ("ls", &["ls"]),
        ("ls_query", &["ls", "type:lora", "size<1MB"]),
        ("ls_nothing", &["ls", "base:sdxl"]),
        ("info", &["info", "one.safetensors"]),
        ("stats", &["stats"]),
        ("app_list", &["app", "list"]),
        ("app_show", &["app", "show", "forge"]),
        ("app_enable", &["app", "enable", "swarmui"]),
        ("app_enable_again", &["app", "enable", "swarmui"]),
        ("app_disable", &["app", "disable", "swarmui"]),
        ("hash", &["hash", "in/one.safetensors"]),
        ("verify", &["verify"]),
        ("config_path", &["config", "path"]),
        ("config_show", &["config", "show"]),
    ];
    for (name, words) in day {
        // Columns are as wide as the paths of this machine.
        let text = told(&sandbox, words);
        let squeezed: Vec<_> = text
            .lines()
            .map(|line| line.split("  ").filter(|part| !part.is_empty()).collect::<Vec<_>>().join("  "))
            .collect();
        snapshot(&sandbox, name, &if *name == "config_show" { squeezed.join("\n") } else { text });
    }
}

#[test]
fn verify_and_doctor_say_what_is_wrong_and_how_to_mend_it() {
    let sandbox = stocked();
    let stored = sandbox.store().join("models").join(sha256_of(&lora(1))).join("one.safetensors");
    let mut bytes = lora(1);
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::set_permissions(&stored, fs::Permissions::from_mode(0o644)).expect("its owner");
    fs::write(&stored, bytes).expect("its owner");
    let gone = sandbox.store().join("models").join(sha256_of(&lora(2)));
    fs::remove_dir_all(&gone).expect("its owner");
    snapshot(&sandbox, "verify_damaged", &told(&sandbox, &["verify"]));
    // What doctor says of the store; the rest is about this machine, and has its shape only.
    let doctor = sandbox.run(["doctor"]);
    let store = ["store", "writable", "databases", "orphans", "leftovers", "network", "Hugging Face token"];
    let mut of_store = String::new();
    let mut names = Vec::new();
    let mut keep = false;
    for line in doctor.stdout.lines() {
        if let Some(name) = line.get(8..).filter(|_| !line.starts_with("   ")).and_then(|rest| rest.split(": ").next())
        {
            keep = store.contains(&name);
            names.push(name.to_owned());
        }
        if keep {
            of_store.push_str(line);
            of_store.push('\n');
        }
    }
    snapshot(&sandbox, "doctor_of_the_store", &of_store);
    // Mounts that other tests of this machine killed are no business of this one.
    names.retain(|name| name != "stale mount");
    snapshot(&sandbox, "doctor_checks", &names.join("\n"));
    for check in sandbox.run(["doctor", "--json"]).json().as_array().expect("an array") {
        let fine = check["status"] == "fine";
        assert!(fine || check["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()), "{check}");
    }
}

/// Exit codes are an interface. Each failure names what it is about and what to do.
#[test]
fn failures_have_their_code_and_a_hint() {
    let sandbox = stocked();
    sandbox.write("settings.toml", "stroe = \"/x\"\n");
    sandbox.write("full/file", "x");
    let same = |number| sandbox.write(format!("same{number}/same.safetensors"), lora(number));
    same(3);
    same(4);
    sandbox.run(["import", "same3"]).success();
    sandbox.run(["import", "same4"]).success();
    let failures: &[(&[&str], i32)] = &[
        (&[], 2),
        (&["frobnicate"], 2),
        (&["import"], 2),
        (&["ls", "--frobnicate"], 2),
        (&["ls", "colour:red"], 2),
        (&["ls", "(type:lora"], 2),
        (&["ls", "size>much"], 2),
        (&["info", "same.safetensors"], 2),
        (&["info", "nothing"], 4),
        (&["info", "sha256:00000000"], 4),
        (&["verify", "nothing"], 4),
        (&["hash", "nothing.safetensors"], 4),
        (&["app", "show", "nothing"], 4),
        (&["app", "enable", "nothing"], 4),
        (&["import", "nothing.safetensors"], 1),
        (&["import", "--mode", "symlink", "in"], 2),
        (&["add", "nothing"], 2),
        (&["add", "hf:org/../name"], 2),
        (&["--offline", "add", "hf:org/name"], 5),
        (&["mount", "full"], 1),
        (&["mount", "settings.toml"], 2),
        (&["mount", "nowhere/at/all"], 4),
        (&["unmount", "full"], 9),
        (&["--store", "nowhere", "ls"], 4),
        (&["--store", "full", "init"], 1),
        (&["--config", "nowhere.toml", "ls"], 4),
        (&["--config", "settings.toml", "ls"], 2),
    ];
    let mut all = String::new();
    for (words, code) in failures {
        let finished = sandbox.run(words.iter().copied()).code(*code);
        assert!(finished.stdout.is_empty() || *code == 1, "stdout holds data only: {finished:?}");
        // The parser of the command line has its own way to hint.
        let hints = ["hint: ", "--help", "Usage:"];
        assert!(hints.iter().any(|hint| finished.stderr.contains(hint)), "no hint: {finished:?}");
        assert!(!finished.stderr.contains("os error"), "{finished:?}");
        all.push_str(&told(&sandbox, words));
        all.push('\n');
    }
    snapshot(&sandbox, "failures", &all);
}

#[test]
fn failures_of_a_hub_have_their_code_and_a_hint() {
    let mut hub = FakeHub::start();
    hub.repo(REPO).lfs("loras/big.safetensors", large_lora(1, 1 << 20));
    hub.repo("org/private").lfs("a.safetensors", lora(1)).access(Access::Private);
    hub.repo("org/gated").lfs("a.safetensors", lora(2)).access(Access::Gated);
    hub.token(TOKEN, &["org/private"]);
    let mut sandbox = Sandbox::new();
    sandbox.set("HF_ENDPOINT", &hub.endpoint());
    let mut all = String::new();
    let mut check = |sandbox: &Sandbox, words: &[&str], code: i32| {
        let finished = sandbox.run(words.iter().copied()).code(code);
        assert!(code == 0 || finished.stderr.contains("hint: "), "no hint: {finished:?}");
        all.push_str(&told(sandbox, words));
        all.push('\n');
    };
    check(&sandbox, &["add", "hf:org/name"], 0);
    check(&sandbox, &["add", "hf:org/none"], 4);
    check(&sandbox, &["add", "hf:org/name@v9"], 4);
    check(&sandbox, &["add", "hf:org/name/none.safetensors"], 4);
    check(&sandbox, &["add", "hf:org/private"], 4);
    check(&sandbox, &["add", "hf:org/gated"], 0);
    sandbox.set("HF_TOKEN", TOKEN);
    check(&sandbox, &["add", "hf:org/gated"], 0);
    sandbox.set("HF_TOKEN", "hf_wrong");
    check(&sandbox, &["add", "hf:org/private"], 3);
    hub.stop();
    sandbox.unset("HF_TOKEN");
    check(&sandbox, &["add", "hf:org/other"], 5);
    snapshot(&sandbox, "failures_of_a_hub", &all);
}

/// `modelfs ls | head -1`: whoever reads has enough, and that is no failure.
#[test]
fn a_reader_that_goes_away_is_a_success() {
    let sandbox = stocked();
    for words in LISTINGS.iter().copied().chain([&["--help"][..], &["completions", "bash"], &["ls", "--json"]]) {
        let whole = sandbox.run(words.iter().copied());
        let mut command = sandbox.command(words);
        let (reader, writer) = std::io::pipe().expect("a pipe");
        // Nobody reads from the start: each write fails.
        drop(reader);
        command.stdout(writer).stderr(std::process::Stdio::piped());
        let output = command.output().expect("starts");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(matches!(output.status.code(), Some(0)) || whole.status.code() != Some(0), "{words:?}: {output:?}");
        assert!(!stderr.contains("error") && !stderr.contains("panicked"), "{words:?}: {stderr}");

        let line = format!("{} {} | head -1", env!("CARGO_BIN_EXE_modelfs"), shell_words(words));
        let headed = sandbox.finish(sandbox.program("bash", ["-o", "pipefail", "-c", &line]));
        let first = headed.stdout.lines().count();
        assert_eq!(first, 1, "{words:?}: {headed:?}");
        assert!(headed.status.code() == Some(0) || whole.status.code() != Some(0), "{words:?}: {headed:?}");
    }
}

fn shell_words(words: &[&str]) -> String {
    words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ")
}

/// With `--json` stdout is one value and nothing else; what a person is told goes to stderr.
#[test]
fn json_is_all_that_stdout_holds() {
    let sandbox = stocked();
    let more: &[&[&str]] = &[&["import", "in"], &["import", "--dry-run", "again"], &["import", "again"]];
    for words in LISTINGS.iter().chain(more) {
        let finished = sandbox.run(words.iter().copied().chain(["--json", "-vvv"]));
        let value = finished.json();
        assert!(value.is_array() || value.is_object(), "{words:?}: {value}");
        assert!(finished.stdout.ends_with('\n'), "{words:?}");
        let quiet = sandbox.run(words.iter().copied().chain(["--json", "--quiet"]));
        quiet.json();
        assert_eq!(quiet.stderr, "", "{words:?} is not quiet");
    }
    let hub = FakeHub::start();
    hub.repo(REPO).lfs("loras/big.safetensors", large_lora(1, 1 << 20));
    let mut sandbox = sandbox;
    sandbox.set("HF_ENDPOINT", &hub.endpoint());
    assert!(sandbox.run(["add", "--json", "hf:org/name"]).success().json().is_array());
    // A store that is made on the way is told on stderr.
    let finished = sandbox.run(["--store", "fresh", "app", "list", "--json"]).success();
    assert!(finished.json().is_array() && finished.stderr.contains("made a new store"), "{finished:?}");
}

#[test]
fn no_output_holds_the_token() {
    let mut hub = FakeHub::start();
    hub.repo(REPO).lfs("loras/big.safetensors", large_lora(1, 3 << 20));
    hub.token(TOKEN, &[REPO]);
    let mut sandbox = stocked();
    sandbox.set("HF_ENDPOINT", &hub.endpoint()).set("HF_TOKEN", TOKEN).set("RUST_BACKTRACE", "full");
    let mut seen = String::new();
    let mut collect = |finished: Finished| {
        seen.push_str(&finished.stdout);
        seen.push_str(&finished.stderr);
    };
    collect(sandbox.run(["add", "-vvv", "--json", "hf:org/name"]).success());
    collect(sandbox.run(["add", "-vvv", "hf:org/none"]).code(4));
    for words in LISTINGS {
        collect(sandbox.run(words.iter().copied().chain(["-vvv"])));
        collect(sandbox.run(words.iter().copied().chain(["-vvv", "--log-format", "json", "--json"])));
    }
    // A mistake that would have a program repeat what it was given.
    collect(sandbox.run(["config", "show", "--config", TOKEN, "-vvv"]).code(4));
    if fuse_or_skip() == Fuse::Usable {
        let mount = sandbox.mount(&["-vvv"]);
        assert_eq!(fs::read(mount.path("comfyui/loras/big.safetensors")).expect("readable"), large_lora(1, 3 << 20));
        for file in ["status.json", "downloads.json"] {
            seen.push_str(&fs::read_to_string(mount.path(".modelfs").join(file)).expect("readable"));
        }
        hub.stop();
        seen.push_str(&mount.unmount());
        sandbox.run(["mount", "-vvv", "mount"]).success();
        sandbox.run(["unmount", "mount"]).success();
    }
    // The one place where it stood is the path that was typed.
    let seen = seen.replace(&format!("settings file {TOKEN}"), "");
    assert!(!seen.contains(TOKEN), "{}", seen.lines().find(|line| line.contains(TOKEN)).unwrap_or_default());
    for file in walk(&sandbox.store()) {
        // The process of the last mount may still be tidying up its journal.
        let Ok(bytes) = fs::read(sandbox.store().join(&file)) else { continue };
        let found = bytes.windows(TOKEN.len()).any(|window| window == TOKEN.as_bytes());
        assert!(!found, "the token is in {file}");
    }
}

/// No file of the snapshots is left over from a test that is gone.
#[test]
fn every_snapshot_is_used() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots");
    let source = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli.rs")).expect("this file");
    let help: BTreeSet<String> = VERBS
        .iter()
        .map(|verb| if verb.is_empty() { "help_modelfs".to_owned() } else { format!("help_{}", verb.join("_")) })
        .collect();
    // Beside a snapshot that differs lies what was found instead, until somebody has looked.
    for file in walk(&folder).into_iter().filter(|file| !file.ends_with(".new")) {
        let name = file.trim_end_matches(".snap");
        assert!(help.contains(name) || source.contains(&format!("\"{name}\"")), "{file} belongs to no test");
    }
}
