//! The address of one file on the web, as it may be kept: `https://host[:port]/path[?query]`.
//!
//! Invariants: no user name, no password, no parameter that carries a token or a signature; its parts have the form of a
//! repository (`https/host:port`) and of a relative path, so that the catalog keeps it like any other place.
//! Not here: asking the server (`hub`).

use super::{EntryName, LocatorError, RelativePath, RepoId};

/// Parameters that grant access: they are not kept. Letters and digits are compared, without regard to case.
const SECRET_PARAMETERS: [&str; 10] =
    ["auth", "authkey", "authorization", "key", "keypairid", "policy", "sig", "sign", "expires", "jwt"];
/// Words in the names of such parameters: `private_token`, `accessToken`, `AWSAccessKeyId`, `X-Signature`.
const SECRET_WORDS: [&str; 7] = ["token", "secret", "signature", "password", "apikey", "accesskey", "credential"];
/// Beginnings of the parameters that object stores sign with.
const SECRET_PREFIXES: [&str; 3] = ["xamz", "xgoog", "xoss"];

/// One file on the web.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct WebAddress {
    repo: RepoId,
    path: RelativePath,
}

impl WebAddress {
    /// Parses an address and leaves out what must not be kept. A fragment is no part of what is asked.
    pub fn parse(text: &str) -> Result<Self, LocatorError> {
        let refused = |reason| LocatorError::Address { text: shown(text), reason };
        let (scheme, rest) = text.split_once("://").ok_or_else(|| refused("it has no scheme"))?;
        let scheme = scheme.to_ascii_lowercase();
        if !matches!(scheme.as_str(), "http" | "https") {
            return Err(refused("only http and https are known"));
        }
        let rest = rest.split('#').next().unwrap_or_default();
        let (before_query, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
        let (host, path) = before_query.split_once('/').ok_or_else(|| refused("it names no file"))?;
        if host.contains('@') {
            return Err(refused("it holds a user name or password, which is not kept"));
        }
        let host = host.to_ascii_lowercase();
        let host = match (scheme.as_str(), host.rsplit_once(':')) {
            ("http", Some((name, "80"))) | ("https", Some((name, "443"))) => name.to_owned(),
            _ => host,
        };
        let repo = RepoId::new(&format!("{scheme}/{host}")).map_err(|_| refused("its host is not understood"))?;
        let query = query.map(without_secrets).filter(|query| !query.is_empty());
        let path = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
        let path = RelativePath::new(&encoded(&path)).map_err(|_| refused("its path is not understood"))?;
        let address = Self { repo, path };
        if address.file_name().is_none() {
            return Err(refused("it does not end in the name of a file"));
        }
        Ok(address)
    }

    /// The address again that was kept in two parts.
    pub fn from_parts(repo: &RepoId, path: &RelativePath) -> Option<Self> {
        let is_web = repo.as_str().starts_with("https/") || repo.as_str().starts_with("http/");
        is_web.then(|| Self { repo: repo.clone(), path: path.clone() })
    }

    /// `https/host[:port]`.
    pub fn repo(&self) -> &RepoId {
        &self.repo
    }

    /// Path and query, as they are sent.
    pub fn path(&self) -> &RelativePath {
        &self.path
    }

    /// Host and, where it is not the usual one, port.
    pub fn host(&self) -> &str {
        self.repo.as_str().split_once('/').map_or("", |(_, host)| host)
    }

    /// The last name of the path, decoded.
    pub fn file_name(&self) -> Option<EntryName> {
        let path = self.path.as_str().split('?').next().unwrap_or_default();
        EntryName::new(&decoded(path.rsplit('/').next()?)?).ok()
    }
}

impl std::fmt::Display for WebAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (scheme, host) = self.repo.as_str().split_once('/').unwrap_or(("https", ""));
        write!(f, "{scheme}://{host}/{}", self.path)
    }
}

fn without_secrets(query: &str) -> String {
    let is_secret = |parameter: &&str| {
        // A server decodes the name, so an escape in it hides nothing from the server.
        let name = decoded(parameter.split('=').next().unwrap_or_default());
        let Some(name) = name else { return true };
        let letters = name.chars().filter(char::is_ascii_alphanumeric);
        let name: String = letters.map(|letter| letter.to_ascii_lowercase()).collect();
        SECRET_PARAMETERS.contains(&name.as_str())
            || SECRET_WORDS.iter().any(|word| name.contains(word))
            || SECRET_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    };
    query.split('&').filter(|parameter| !parameter.is_empty() && !is_secret(parameter)).collect::<Vec<_>>().join("&")
}

/// Spaces and everything outside ASCII as they are sent; a `/` in a query must not look like a folder.
fn encoded(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut in_query = false;
    for byte in text.bytes() {
        match byte {
            b'/' if in_query => result.push_str("%2F"),
            0x21..=0x7e => result.push(char::from(byte)),
            _ => result.push_str(&format!("%{byte:02X}")),
        }
        in_query |= byte == b'?';
    }
    result
}

/// `%20` as a space. Nothing when what comes out is not text.
pub(super) fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escape = (*first == b'%').then(|| after.get(..2)).flatten();
        let digits = escape.and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

/// The part of an address that can be repeated to its user: what follows may be a secret.
pub(super) fn shown(text: &str) -> String {
    const SHOWN_CHARS_MAX: usize = 200;
    let text = text.split(['?', '#']).next().unwrap_or_default();
    let text = match text.split_once("://") {
        Some((scheme, rest)) => format!("{scheme}://{}", rest.rsplit('@').next().unwrap_or_default()),
        None => text.to_owned(),
    };
    text.chars().take(SHOWN_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_kept_without_what_grants_access() {
        for (text, kept) in [
            ("https://Host.example/a/b.safetensors", "https://host.example/a/b.safetensors"),
            ("https://h.example:443/x.gguf#part", "https://h.example/x.gguf"),
            ("http://127.0.0.1:8080/x.gguf?download=true&token=abc", "http://127.0.0.1:8080/x.gguf?download=true"),
            ("https://h.example/x.gguf?X-Amz-Signature=1&Signature=2&Expires=3", "https://h.example/x.gguf"),
            (
                "https://h.example/x.gguf?accessToken=1&private_token=2&AWSAccessKeyId=3&author=a",
                "https://h.example/x.gguf?author=a",
            ),
            ("https://h.example/x.gguf?%74oken=1&X-Amz%2DDate=2&%ff=3&part=a", "https://h.example/x.gguf?part=a"),
            ("https://h.example/a b/ü.bin", "https://h.example/a%20b/%C3%BC.bin"),
            ("https://h.example/x.bin?path=a/b", "https://h.example/x.bin?path=a%2Fb"),
            ("https://xn--bcher-kva.example/x.bin", "https://xn--bcher-kva.example/x.bin"),
        ] {
            let address = WebAddress::parse(text).expect(text);
            assert_eq!(address.to_string(), kept);
            let again = WebAddress::from_parts(&RepoId::new(address.repo().as_str()).expect("kept"), address.path());
            assert_eq!(again, Some(address));
        }
    }

    #[test]
    fn names_are_decoded_and_stay_names() {
        let name = |text: &str| WebAddress::parse(text).expect(text).file_name().map(|name| name.as_str().to_owned());
        assert_eq!(name("https://h/a%20b.bin?x=1").as_deref(), Some("a b.bin"));
        for text in ["https://h/a%2Fb", "https://h/x/%2e%2e", "https://h/%00", "https://h/%ff.bin"] {
            assert!(WebAddress::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn hostile_addresses_are_refused_without_their_secrets() {
        for text in [
            "https://user:hunter2@h.example/x.bin",
            "https://h.example",
            "https://h.example/",
            "https://h.example/a//b.bin",
            "https://h.example/../x.bin",
            "https://h example/x.bin",
            "https://h.example:port/x.bin",
            "ftp://h.example/x.bin?token=hunter2",
            "https:///x.bin",
        ] {
            let error = WebAddress::parse(text).expect_err(text);
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
