//! What must not get out: tokens go to their own hub, and neither they nor signed addresses are printed or kept.

mod support;

use modelfs::base::{ByteRange, RelativePath, RepoId, Revision, Secret};
use modelfs::hub::{Expected, HubOptions, HubSet, Origin};
use modelfs::tree::Source;
use std::fs;
use support::asking::run;
use support::fake_civitai::{Access, FakeCivitai, File, Version};
use support::fake_hub::{FakeHub, sha256_of, sha256_of_file};
use support::fake_modelscope::FakeModelScope;
use support::mounted::{Fuse, Sandbox, fuse_or_skip, walk, xattr, xattr_names};
use support::tiny::large_lora;
use support::two_origins::{Answer, Ask, TwoOrigins};

const MIB: usize = 1 << 20;
const HF_TOKEN: &str = "hf_token_that_is_secret";
const CIVITAI_TOKEN: &str = "civitai_token_that_is_secret";
const MODELSCOPE_TOKEN: &str = "ms-token-that-is-secret";
const WEB_TOKEN: &str = "hunter2";
/// Tokens, and what every signed address of the fake storages holds.
const SECRETS: [&str; 7] =
    [HF_TOKEN, CIVITAI_TOKEN, MODELSCOPE_TOKEN, WEB_TOKEN, "Signature=", "X-Amz-Signature", "_dnld"];

#[track_caller]
fn holds_no_secret(what: &str, bytes: &[u8]) {
    for secret in SECRETS {
        let found = bytes.windows(secret.len()).any(|window| window.eq_ignore_ascii_case(secret.as_bytes()));
        assert!(!found, "{what} holds {secret}");
    }
}

#[test]
fn a_token_is_not_sent_again_once_a_redirect_has_left_its_hub() {
    const BYTES: &[u8] = b"0123456789";
    let back = |ask: &Ask, _: &support::two_origins::Storage| {
        let home = ask.parameter("home").expect("the redirect says where it came from");
        Answer::new(307, "text/plain", "").with("location", format!("{home}/back"))
    };
    let elsewhere = TwoOrigins::start(back);
    let away = elsewhere.endpoint();
    let hub = TwoOrigins::start(move |ask, _| match ask.path.as_str() {
        "/back" => Answer::new(206, "application/octet-stream", BYTES).with("content-range", "bytes 0-9/10"),
        _ => {
            let home = ask.header(axum::http::header::HOST).unwrap_or_default();
            Answer::new(307, "text/plain", "").with("location", format!("{away}/x?home=http://{home}"))
        }
    });
    let token = |text: &str| Some(Secret::new(text.to_owned()));
    let client = HubSet::new(HubOptions {
        hf_endpoint: hub.endpoint(),
        hf_token: token(HF_TOKEN),
        civitai_endpoint: hub.endpoint(),
        civitai_token: token(CIVITAI_TOKEN),
        modelscope_endpoint: hub.endpoint(),
        modelscope_token: token(MODELSCOPE_TOKEN),
        ..HubOptions::default()
    });
    let wanted = Expected { size_bytes: 10, sha256: None, etag: None };
    for (source, repo, token) in [
        (Source::HuggingFace, "org/name", HF_TOKEN),
        (Source::Civitai, "12", CIVITAI_TOKEN),
        (Source::ModelScope, "org/name", MODELSCOPE_TOKEN),
    ] {
        let origin = Origin {
            source,
            repo: RepoId::new(repo).expect("a name"),
            commit: Revision::new("34").expect("a revision"),
            path: RelativePath::new("56").expect("a path"),
        };
        // The second time through the address that was found the first time.
        for _ in 0..2 {
            let whole = ByteRange::new(0, 10).expect("not empty");
            let piece = run(async { client.open_range(&origin, &wanted, whole).await?.next().await.expect("bytes") });
            assert_eq!(piece.expect("redirected"), BYTES, "{source:?}");
        }
        let asks = hub.asks();
        let (returned, first): (Vec<_>, Vec<_>) = asks.iter().partition(|ask| ask.path == "/back");
        assert_eq!((first.len(), returned.len()), (1, 2), "{source:?}");
        assert_eq!(first[0].bearer(), Some(token), "{source:?}");
        assert!(returned.iter().all(|ask| !ask.has_credentials()), "{source:?} sent its token after it had left");
        assert_eq!(elsewhere.asks().iter().filter(|ask| ask.has_credentials()).count(), 0, "{source:?}");
        hub.forget();
        elsewhere.forget();
    }
}

#[test]
fn no_log_attribute_or_file_holds_a_token_or_a_signed_address() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let (face, civitai, scope, web) =
        (FakeHub::start(), FakeCivitai::start(), FakeModelScope::start(), FakeHub::start());
    let bytes: Vec<Vec<u8>> = (1..=4).map(|seed| large_lora(seed, 2 * MIB)).collect();
    face.token(HF_TOKEN, &[]);
    face.repo("org/face").lfs("face.safetensors", bytes[0].clone());
    civitai.key(CIVITAI_TOKEN);
    let file = File::new(5, "civitai.safetensors", bytes[1].clone());
    civitai.model(12, "LORA", vec![Version::new(34, Access::Login, vec![file])]);
    scope.large("org/scope", "scope.safetensors", bytes[2].clone());
    web.repo("org/web").lfs("web.safetensors", bytes[3].clone());
    let mut sandbox = Sandbox::new();
    sandbox.set("HF_ENDPOINT", &face.endpoint()).set("HF_TOKEN", HF_TOKEN);
    sandbox.set("MODELFS_CIVITAI_ENDPOINT", &civitai.origins.endpoint()).set("CIVITAI_TOKEN", CIVITAI_TOKEN);
    sandbox.set("MODELSCOPE_ENDPOINT", &scope.origins.endpoint()).set("MODELSCOPE_API_TOKEN", MODELSCOPE_TOKEN);
    let address = format!("{}/org/web/resolve/main/web.safetensors?accessToken={WEB_TOKEN}", web.endpoint());
    for reference in ["hf:org/face", "civitai:12", "modelscope:org/scope", &address] {
        let added = sandbox.run(["-vvv", "add", reference]).success();
        assert!(added.stderr.contains("TRACE"), "{}", added.stderr);
        holds_no_secret(reference, format!("{}{}", added.stdout, added.stderr).as_bytes());
    }
    let missing = sandbox.run(["-vvv", "add", "hf:org/none"]).code(4);
    holds_no_secret("a refusal", missing.stderr.as_bytes());

    let mount = sandbox.mount(&["-vvv"]);
    for (name, bytes) in ["face", "civitai", "scope", "web"].iter().zip(&bytes) {
        let path = mount.path(format!("comfyui/loras/{name}.safetensors"));
        assert_eq!(sha256_of_file(&path).expect("readable"), sha256_of(bytes), "{name}");
        for attribute in xattr_names(&path).expect("a file has some") {
            let value = xattr(&path, &attribute).expect("it was listed").unwrap_or_default();
            holds_no_secret(&attribute, value.as_bytes());
        }
    }
    for live in ["status.json", "downloads.json"] {
        holds_no_secret(live, &fs::read(mount.path(".modelfs").join(live)).expect("readable"));
    }
    let log = mount.unmount();
    assert!(log.contains("TRACE"), "{log}");
    holds_no_secret("the log", log.as_bytes());
    let kept = walk(&sandbox.path(""));
    assert!(kept.iter().any(|path| path.ends_with("modelhub.db")), "{kept:?}");
    for path in kept {
        // Models are compared by their hash above.
        let bytes = fs::read(sandbox.path(&path)).expect("readable");
        if bytes.len() < MIB || !path.contains("blobs") {
            holds_no_secret(&path, &bytes);
        }
    }
    assert_eq!(face.cdn_credentials_seen() + civitai.origins.leaks() + scope.origins.leaks(), 0);
    assert!(web.requests().iter().all(|request| !request.with_authorization), "a token went to the web");
}
