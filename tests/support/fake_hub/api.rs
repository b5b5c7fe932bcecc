//! The hub's own origin: information, trees, and `resolve`.

use super::content::sha256_of;
use super::exchange::{Ask, Reply};
use super::fault::{Fault, Place};
use super::outgoing;
use super::record::Origin;
use super::repository::{Access, File, Repo, Storage};
use super::tree;
use super::wire::Peer;
use super::{Shared, SmallFiles};
use axum::body::Body;
use axum::extract::{ConnectInfo, State};
use axum::http::{Method, Request, Response, header};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a path of the hub asks for.
enum Route {
    WhoAmI,
    Search,
    Info {
        repo: String,
        revision: String,
    },
    Tree {
        repo: String,
        revision: String,
        folder: String,
    },
    PathsInfo {
        repo: String,
        revision: String,
    },
    Refs {
        repo: String,
    },
    Resolve {
        repo: String,
        revision: String,
        path: String,
    },
    /// Where a small file's bytes come from.
    Cached {
        repo: String,
        revision: String,
        path: String,
    },
    Unknown,
}

const VERBS: &[&str] = &["revision", "tree", "paths-info", "refs"];

impl Route {
    fn of(segments: &[String]) -> Self {
        let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
        match parts.as_slice() {
            ["api", "whoami-v2"] => Self::WhoAmI,
            ["api", "models"] => Self::Search,
            ["api", "resolve-cache", "models", org, name, commit, path @ ..] => {
                Self::Cached { repo: format!("{org}/{name}"), revision: (*commit).to_owned(), path: path.join("/") }
            }
            ["api", "models", name, verb, rest @ ..] if VERBS.contains(verb) => {
                Self::of_repo((*name).to_owned(), Some(verb), rest)
            }
            ["api", "models", org, name] => Self::of_repo(format!("{org}/{name}"), None, &[]),
            ["api", "models", org, name, verb, rest @ ..] => Self::of_repo(format!("{org}/{name}"), Some(verb), rest),
            ["api", "models", name] => Self::of_repo((*name).to_owned(), None, &[]),
            [org, name, "resolve", revision, path @ ..] if !path.is_empty() => {
                let (repo, revision) = (format!("{org}/{name}"), (*revision).to_owned());
                Self::Resolve { repo, revision, path: path.join("/") }
            }
            [name, "resolve", revision, path @ ..] if !path.is_empty() => {
                let (repo, revision) = ((*name).to_owned(), (*revision).to_owned());
                Self::Resolve { repo, revision, path: path.join("/") }
            }
            _ => Self::Unknown,
        }
    }

    fn of_repo(repo: String, verb: Option<&str>, rest: &[&str]) -> Self {
        match (verb, rest) {
            (None, []) => Self::Info { repo, revision: "main".to_owned() },
            (Some("revision"), [revision]) => Self::Info { repo, revision: (*revision).to_owned() },
            (Some("tree"), [revision, folder @ ..]) => {
                Self::Tree { repo, revision: (*revision).to_owned(), folder: folder.join("/") }
            }
            (Some("paths-info"), [revision]) => Self::PathsInfo { repo, revision: (*revision).to_owned() },
            (Some("refs"), []) => Self::Refs { repo },
            _ => Self::Unknown,
        }
    }

    fn repo(&self) -> Option<&str> {
        match self {
            Self::Info { repo, .. }
            | Self::Tree { repo, .. }
            | Self::PathsInfo { repo, .. }
            | Self::Refs { repo }
            | Self::Resolve { repo, .. }
            | Self::Cached { repo, .. } => Some(repo),
            Self::WhoAmI | Self::Search | Self::Unknown => None,
        }
    }

    fn place(&self) -> Place {
        match self {
            Self::Resolve { .. } => Place::Resolve,
            Self::Cached { .. } => Place::Bytes,
            Self::WhoAmI
            | Self::Search
            | Self::Info { .. }
            | Self::Tree { .. }
            | Self::PathsInfo { .. }
            | Self::Refs { .. }
            | Self::Unknown => Place::Api,
        }
    }

    fn subject(&self) -> String {
        match self {
            Self::Resolve { repo, path, .. } | Self::Cached { repo, path, .. } => format!("{repo}/{path}"),
            _ => self.repo().unwrap_or_default().to_owned(),
        }
    }
}

pub(super) async fn answer(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request<Body>,
) -> Response<Body> {
    let ask = Ask::read(Origin::Hub, peer, request).await;
    let route = Route::of(&ask.segments());
    let subject = route.subject();
    let reply = match shared.troubled(route.place(), &subject).await {
        Err(reply) => reply,
        Ok(faults) => shared.answer_for(&ask, &route, &faults).await.unwrap_or_else(|refusal| refusal),
    };
    // Every answer of the hub tells what is left of the allowance.
    let bucket = if route.place() == Place::Resolve { "resolvers" } else { "api" };
    let reply = reply
        .with("ratelimit", format!("\"{bucket}\";r=2999;t=300"))
        .with("ratelimit-policy", format!("\"fixed window\";\"{bucket}\";q=3000;w=300"))
        .with("x-request-id", format!("Root=1-{}", shared.next_signature()));
    ask.finish(&shared, &subject, reply)
}

/// A refusal in the hub's form: JSON below `/api`, else text; the headers repeat it.
fn refusal(ask: &Ask, status: u16, code: Option<&'static str>, message: &str) -> Reply {
    let reply = if ask.uri.path().starts_with("/api/") {
        Reply::json(status, &json!({ "error": message }))
    } else {
        Reply::text(status, message)
    };
    let reply = reply.with("x-error-message", message);
    let reply = match code {
        Some(code) => reply.with("x-error-code", code),
        None => reply,
    };
    match status {
        401 => reply.with("www-authenticate", "Bearer realm=\"Authentication required\", charset=\"UTF-8\""),
        _ => reply,
    }
}

impl Shared {
    async fn answer_for(&self, ask: &Ask, route: &Route, faults: &[Fault]) -> Result<Reply, Reply> {
        self.check_name(ask, route)?;
        match route {
            Route::WhoAmI => self.who_am_i(ask),
            Route::Search => Ok(self.search_page(ask)),
            Route::Info { repo, revision } => {
                let found = self.enter(ask, repo, Wants::Listing)?.at(ask, revision)?;
                Ok(Reply::json(200, &tree::info(repo, &found, ask.parameter("blobs").is_some())))
            }
            Route::Tree { repo, revision, folder } => {
                let found = self.enter(ask, repo, Wants::Listing)?.at(ask, revision)?;
                self.tree_page(ask, repo, revision, folder, &found)
            }
            Route::PathsInfo { repo, revision } => {
                let found = self.enter(ask, repo, Wants::Listing)?.at(ask, revision)?;
                Ok(Reply::json(200, &tree::paths_info(&found.files, &ask.body)))
            }
            Route::Refs { repo } => Ok(Reply::json(200, &tree::refs(&self.enter(ask, repo, Wants::Listing)?.refs))),
            Route::Resolve { repo, revision, path } => {
                let found = self.enter(ask, repo, Wants::Content)?.at(ask, revision)?;
                self.resolve(ask, repo, path, &found, faults).await
            }
            Route::Cached { repo, revision, path } => {
                let found = self.enter(ask, repo, Wants::Content)?.at(ask, revision)?;
                let file = found.file(ask, path)?;
                Ok(self.small_file(ask, path, file, faults).with("x-repo-commit", &found.commit))
            }
            Route::Unknown => Err(refusal(ask, 404, None, "Sorry, we can't find the page you are looking for.")),
        }
    }

    /// An old name redirects, query and all; only `resolve` serves it as it is.
    fn check_name(&self, ask: &Ask, route: &Route) -> Result<(), Reply> {
        let renamed = self.settings().renamed;
        match route.repo().and_then(|old| renamed.get_key_value(old)) {
            Some((old, new)) if route.place() == Place::Api => {
                Err(Reply::redirect(307, &ask.uri.to_string().replacen(old, new, 1)))
            }
            _ => Ok(()),
        }
    }

    fn who_am_i(&self, ask: &Ask) -> Result<Reply, Reply> {
        match ask.bearer() {
            Some(token) if self.settings().tokens.contains(token) => {
                Ok(Reply::json(200, &json!({ "type": "user", "name": "tester", "auth": { "type": "access_token" } })))
            }
            Some(_) => Err(refusal(ask, 401, None, "Invalid credentials in Authorization header")),
            None => Err(refusal(ask, 401, None, "Invalid username or password.")),
        }
    }

    /// Checks who asks, in the hub's order.
    fn enter(&self, ask: &Ask, id: &str, wants: Wants) -> Result<Entered, Reply> {
        let settings = self.settings();
        let id = settings.renamed.get(id).map_or(id, String::as_str);
        let token = ask.bearer();
        let known = token.is_some_and(|token| settings.tokens.contains(token));
        let granted = token.is_some_and(|token| settings.grants.contains(&(token.to_owned(), id.to_owned())));
        let repos = self.repos.lock().expect("no panic while held");
        let repo = repos.get(id);
        let gated = repo.is_some_and(|repo| repo.access == Access::Gated) && wants == Wants::Content;
        if token.is_some() && !known && !gated {
            return Err(refusal(ask, 401, None, "Invalid credentials in Authorization header"));
        }
        let Some(repo) = repo.filter(|repo| repo.access != Access::Private || granted) else {
            return Err(match token {
                None => refusal(ask, 401, None, "Invalid username or password."),
                Some(_) => refusal(ask, 404, Some("RepoNotFound"), "Repository not found"),
            });
        };
        if repo.access == Access::Disabled && wants == Wants::Content {
            return Err(refusal(ask, 403, None, "Access to this resource is disabled."));
        }
        if gated && !granted {
            let (status, rest) = match known {
                false => (401, "You must have access to it and be authenticated to access it. Please log in."),
                true => (403, "and you are not in the authorized list. Visit the page of the model to ask for access."),
            };
            let joint = if known { " " } else { ". " };
            let message = format!("Access to model {id} is restricted{joint}{rest}");
            return Err(refusal(ask, status, Some("GatedRepo"), &message));
        }
        Ok(Entered::new(repo))
    }

    fn tree_page(&self, ask: &Ask, repo: &str, revision: &str, folder: &str, found: &Found) -> Result<Reply, Reply> {
        let recursive = ask.parameter("recursive").is_some_and(|text| text.eq_ignore_ascii_case("true"));
        let entries = tree::entries(&found.files, folder, recursive);
        if entries.is_empty() && !folder.is_empty() {
            return Err(found.missing(ask));
        }
        let settings = self.settings();
        let start = ask.parameter("cursor").and_then(|cursor| cursor.parse().ok()).unwrap_or(0);
        let page: Vec<_> = entries.iter().skip(start).take(settings.page_entries).cloned().collect();
        let next = start + page.len();
        let reply = Reply::json(200, &serde_json::Value::Array(page)).with("x-repo-commit", &found.commit);
        if next >= entries.len() {
            return Ok(reply);
        }
        let origin = settings.link_origin.unwrap_or_else(|| format!("http://127.0.0.1:{}", self.hub_port));
        let mut url = url::Url::parse(&origin).expect("an origin");
        url.path_segments_mut()
            .expect("http")
            .extend(["api", "models"].into_iter().chain(repo.split('/')).chain(["tree", revision]))
            .extend(folder.split('/').filter(|part| !part.is_empty()));
        url.query_pairs_mut()
            .append_pair("recursive", if recursive { "true" } else { "false" })
            .append_pair("cursor", &next.to_string());
        Ok(reply.with("link", format!("<{url}>; rel=\"next\"")))
    }

    async fn resolve(
        &self,
        ask: &Ask,
        repo: &str,
        path: &str,
        found: &Found,
        faults: &[Fault],
    ) -> Result<Reply, Reply> {
        let file = found.file(ask, path)?;
        if faults.contains(&Fault::RedirectLoop) {
            let location = format!("{}?hop={}", ask.uri.path(), self.next_signature());
            return Ok(Reply::redirect(302, &location).with("x-repo-commit", &found.commit));
        }
        let mut etag = match file.storage {
            Storage::Git => file.content.git_sha1().to_owned(),
            Storage::Lfs => file.content.sha256().to_owned(),
        };
        if faults.contains(&Fault::EtagFlip) {
            etag = sha256_of(self.next_signature().to_string().as_bytes())[..etag.len()].to_owned();
        }
        if ask.header(header::IF_NONE_MATCH).is_some_and(|tag| tag.contains(&etag)) {
            return Ok(Reply::text(304, "").with("etag", format!("\"{etag}\"")));
        }
        let subject = format!("{repo}/{path}");
        let small_files = self.settings().small_files;
        let reply = match (file.storage, small_files) {
            (Storage::Git, SmallFiles::Direct) => {
                let faults = self.troubled(Place::Bytes, &subject).await?;
                return Ok(self.small_file(ask, path, file, &faults).with("x-repo-commit", &found.commit));
            }
            (Storage::Git, SmallFiles::ThroughCache) => {
                let mut url = url::Url::parse("http://hub").expect("an address");
                url.path_segments_mut()
                    .expect("http")
                    .extend(["api", "resolve-cache", "models"])
                    .extend(repo.split('/'))
                    .push(&found.commit)
                    .extend(path.split('/'));
                url.query_pairs_mut().append_pair("etag", &format!("\"{etag}\""));
                let relative = url.as_str().strip_prefix("http://hub").expect("as built").to_owned();
                Reply::redirect(307, &relative)
            }
            (Storage::Lfs, _) => Reply::redirect(302, &self.sign(&subject, file))
                .with("x-xet-hash", sha256_of(format!("xet:{etag}").as_bytes())),
        };
        Ok(reply
            .with("x-repo-commit", &found.commit)
            .with("x-linked-size", file.content.size_bytes())
            .with("x-linked-etag", format!("\"{etag}\""))
            .with("etag", format!("\"{etag}\""))
            .with("accept-ranges", "bytes")
            .with("vary", "Origin, Accept"))
    }

    fn small_file(&self, ask: &Ask, path: &str, file: &File, faults: &[Fault]) -> Reply {
        let etag = file.content.git_sha1();
        let is_text = [".json", ".txt", ".md", ".yaml"].iter().any(|suffix| path.ends_with(suffix));
        let allows_gzip = ask.header(header::ACCEPT_ENCODING).is_some_and(|codings| codings.contains("gzip"));
        // Compressed only on the way: a HEAD tells the true length.
        if is_text && allows_gzip && ask.method != Method::HEAD {
            return outgoing::compressed(&file.content, etag);
        }
        outgoing::reply(self, ask, &file.content, etag, faults, None)
    }
}

/// What a request is after; gating closes only the content.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wants {
    Listing,
    Content,
}

/// A repository somebody may look at.
struct Entered {
    access: Access,
    tags: Vec<String>,
    refs: BTreeMap<String, String>,
    commits: Vec<(String, BTreeMap<String, File>)>,
}

/// One commit of it.
pub(super) struct Found {
    pub access: Access,
    pub tags: Vec<String>,
    pub commit: String,
    pub files: BTreeMap<String, File>,
}

impl Entered {
    fn new(repo: &Repo) -> Self {
        let commits = repo.commits.iter().map(|(commit, files)| (commit.clone(), files.clone())).collect();
        Self { access: repo.access, tags: repo.tags.clone(), refs: repo.refs.clone(), commits }
    }

    fn at(self, ask: &Ask, revision: &str) -> Result<Found, Reply> {
        let wanted = self.refs.get(revision).map_or(revision, String::as_str).to_owned();
        match self.commits.into_iter().find(|(commit, _)| *commit == wanted) {
            Some((commit, files)) => Ok(Found { access: self.access, tags: self.tags, commit, files }),
            None => Err(refusal(ask, 404, Some("RevisionNotFound"), &format!("Invalid rev id: {revision}"))),
        }
    }
}

impl Found {
    fn file(&self, ask: &Ask, path: &str) -> Result<&File, Reply> {
        self.files.get(path).ok_or_else(|| self.missing(ask))
    }

    fn missing(&self, ask: &Ask) -> Reply {
        refusal(ask, 404, Some("EntryNotFound"), "Entry not found").with("x-repo-commit", &self.commit)
    }
}
