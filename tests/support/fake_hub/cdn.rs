//! The CDN: signed addresses to bytes. Knows no accounts, and takes credentials as an attack.

use super::Shared;
use super::Signed;
use super::content::sha256_of;
use super::exchange::{Ask, Reply};
use super::fault::{Fault, Place};
use super::outgoing;
use super::record::Origin;
use super::repository::File;
use super::wire::Peer;
use axum::body::Body;
use axum::extract::{ConnectInfo, State};
use axum::http::{Method, Request, Response, header};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

pub(super) async fn answer(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request<Body>,
) -> Response<Body> {
    let ask = Ask::read(Origin::Cdn, peer, request).await;
    let object = shared.signed_object(&ask);
    let subject = object.as_ref().map_or_else(String::new, |object| object.subject.clone());
    let reply = match object {
        _ if ask.headers.contains_key(header::AUTHORIZATION) || ask.headers.contains_key(header::COOKIE) => {
            Reply::text(400, "InvalidArgument: only one auth mechanism allowed")
        }
        None => denied(),
        // The verb is part of the signature.
        Some(_) if ask.method != Method::GET => denied(),
        Some(object) => match shared.troubled(Place::Bytes, &subject).await {
            Err(reply) => reply,
            Ok(faults) if has_expired(&object, &faults) => denied(),
            Ok(faults) => {
                let content = &object.file.content;
                // The storage's own tag looks like a sha256 and is not the file's.
                let etag = sha256_of(format!("storage:{}", content.sha256()).as_bytes());
                outgoing::reply(&shared, &ask, content, &etag, &faults, Some(object.bytes_sent))
            }
        },
    };
    let reply = reply.with("x-hf-cdn-pop", "here");
    ask.finish(&shared, &subject, reply)
}

fn denied() -> Reply {
    let text = "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code><Message>Access denied</Message></Error>";
    let mut reply = Reply::text(403, text);
    reply.headers = vec![("content-type", "text/xml".to_owned())];
    reply
}

struct Object {
    subject: String,
    file: File,
    bytes_sent: Arc<AtomicU64>,
}

fn has_expired(object: &Object, faults: &[Fault]) -> bool {
    let given = object.bytes_sent.load(Ordering::Relaxed);
    faults.iter().any(|fault| matches!(fault, Fault::Expire { after_bytes } if given >= *after_bytes))
}

impl Shared {
    /// What a signed address stands for, while it lives.
    fn signed_object(&self, ask: &Ask) -> Option<Object> {
        let signature = ask.parameter("Signature")?;
        let signed = self.signed.lock().expect("no panic while held");
        let found = signed.get(&signature).filter(|found| found.until > Instant::now())?;
        let bytes_sent = Arc::clone(&found.bytes_sent);
        Some(Object { subject: found.subject.clone(), file: found.file.clone(), bytes_sent })
    }

    /// A new signed address for a file.
    pub(super) fn sign(&self, subject: &str, file: &File) -> String {
        let life = self.settings().signed_life;
        let expires_s = (SystemTime::now() + life).duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let object = sha256_of(subject.as_bytes());
        let signature = sha256_of(format!("{object}:{}", self.next_signature()).as_bytes());
        let signed = Signed {
            subject: subject.to_owned(),
            file: file.clone(),
            until: Instant::now() + life,
            bytes_sent: Arc::default(),
        };
        self.signed.lock().expect("no panic while held").insert(signature.clone(), signed);
        let name = subject.rsplit('/').next().unwrap_or_default();
        let mut url =
            url::Url::parse(&format!("http://127.0.0.1:{}/xet-bridge-us/{object}", self.cdn_port)).expect("an address");
        url.query_pairs_mut()
            .append_pair("response-content-disposition", &format!("inline; filename=\"{name}\";"))
            .append_pair("Expires", &expires_s.to_string())
            .append_pair("Signature", &signature)
            .append_pair("Key-Pair-Id", "K0000000000000");
        url.into()
    }
}
