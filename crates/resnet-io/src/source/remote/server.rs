//! A server, and what is asked of it: a file's size, its bytes, a folder's files.
//!
//! Calls block the thread that makes them; the runtime's own threads do the work, so that several requests are
//! under way at once.

use std::error::Error as _;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::http::HttpBuilder;
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientConfigKey, ClientOptions, Error, GetOptions, GetRange, ObjectMeta,
    ObjectStore, RetryConfig,
};
use tokio::runtime::{Builder, Runtime};
use url::Url;

use crate::error::{DataError, RemoteFault};

/// Threads that receive and decrypt.
const THREADS: usize = 2;
/// How long a connection may take to be made, and bring nothing.
const CONNECT: &str = "10 seconds";
const READ: &str = "30 seconds";
/// The limit on a whole request, which a large file may need all of.
const WHOLE: &str = "1 day";
/// How often a request without an answer, or with one that says "later", is made again: over some ten seconds.
const RETRIES: usize = 6;
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);
const RETRY_TIMEOUT: Duration = Duration::from_secs(120);
/// How often a body that breaks off or is too short is asked for: the library does so for some servers only.
const BODY_ATTEMPTS: u32 = 4;

/// A bucket, container or web server.
pub(super) struct Server {
    store: Arc<dyn ObjectStore>,
    /// Taken out when it is shut down.
    runtime: Option<Runtime>,
    /// `s3://bucket`, as it was given.
    root: String,
    /// The same for messages: without a password.
    shown: String,
    /// Whether it says what is in a folder; web servers do not.
    lists: bool,
}

/// A file or folder of a server.
#[derive(Clone)]
pub(in crate::source) struct Remote {
    pub(super) server: Arc<Server>,
    pub(super) path: Path,
}

/// A file as it was when it was looked at.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) path: Path,
    pub(super) size: u64,
    /// Seconds since 1970.
    pub(super) modified: i64,
    pub(super) tag: Option<String>,
}

/// What went wrong with a request: a [`DataError`] that has no address yet.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) kind: RemoteFault,
    pub(super) reason: String,
}

impl Fault {
    pub(super) fn at(self, address: String) -> DataError {
        DataError::Remote { address, kind: self.kind, reason: self.reason }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        let reason = reason(&error);
        let kind = match &error {
            Error::NotFound { .. } => RemoteFault::Missing,
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => RemoteFault::Denied,
            Error::Precondition { .. } | Error::NotModified { .. } => RemoteFault::Changed,
            // All that is asked for and not every server has are parts of files.
            Error::NotSupported { .. } => RemoteFault::NoRanges,
            // The variant behind it is private.
            _ if reason.contains("non-partial response") => RemoteFault::NoRanges,
            _ => RemoteFault::Failed,
        };
        Fault { kind, reason }
    }
}

/// What the library says without its own headline, and what lies at the bottom of it.
fn reason(error: &Error) -> String {
    /// Servers may answer with pages.
    const LONGEST: usize = 400;
    let mut text = error.source().map_or_else(|| error.to_string(), ToString::to_string);
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    if let Some(last) = causes.last().map(ToString::to_string)
        && !text.contains(&last)
    {
        text = format!("{text}: {last}");
    }
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

impl Server {
    /// Connects to the server of an address; also the path of the address on it.
    ///
    /// `settings` are names and values as the environment has them, in any case, and win over it.
    pub(super) fn connect(
        address: &str,
        settings: &[(String, String)],
    ) -> Result<Remote, DataError> {
        let fail =
            |reason: String| Fault { kind: RemoteFault::Address, reason }.at(address.to_string());
        let url = Url::parse(address).map_err(|error| fail(error.to_string()))?;
        if url.query().is_some() || url.fragment().is_some() {
            return Err(fail("what follows a ? or # is not sent".to_string()));
        }
        let path = Path::from_url_path(url.path()).map_err(|error| fail(error.to_string()))?;
        // Another part of the program may have done so.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let store = store(&url, settings).map_err(|error| Fault::from(error).at(address.into()))?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("resnet-remote")
            .enable_all()
            .build()
            .map_err(|error| fail(error.to_string()))?;
        let lists = !matches!(url.scheme(), "http" | "https");
        let (root, _) = split(address);
        let shown = match root.split_once("://").zip(root.split_once('@')) {
            Some(((scheme, _), (_, host))) if !lists => format!("{scheme}://{host}"),
            _ => root.to_string(),
        };
        let server = Server { store, runtime: Some(runtime), root: root.to_string(), shown, lists };
        Ok(Remote { server: Arc::new(server), path })
    }

    pub(super) fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("it is taken when the server is dropped")
    }

    pub(super) fn address(&self, path: &Path) -> String {
        format!("{}/{path}", self.shown)
    }

    /// Asks for a file, or a part of it that must still be of the file that was looked at.
    pub(super) async fn get(
        &self,
        path: &Path,
        range: Option<GetRange>,
        tag: Option<&String>,
    ) -> Result<object_store::GetResult, Fault> {
        // Weak tags never match (RFC 9110, section 13.1.1).
        let if_match = tag.filter(|tag| !tag.starts_with("W/")).cloned();
        let options = GetOptions { range, if_match, ..GetOptions::default() };
        Ok(self.store.get_opts(path, options).await?)
    }

    /// The bytes of a file, or of a part of it.
    pub(super) async fn bytes(
        &self,
        path: &Path,
        range: Option<Range<u64>>,
        tag: Option<&String>,
    ) -> Result<Bytes, Fault> {
        let mut attempt = 1;
        loop {
            let got = self.get(path, range.clone().map(GetRange::from), tag).await?;
            let expected = got.range.end - got.range.start;
            let fault = match got.bytes().await {
                Ok(bytes) if bytes.len() as u64 == expected => return Ok(bytes),
                Ok(bytes) => {
                    let reason = format!("{} bytes came, expected {expected}", bytes.len());
                    Fault { kind: RemoteFault::Failed, reason }
                }
                Err(error) => error.into(),
            };
            if attempt == BODY_ATTEMPTS {
                return Err(fault);
            }
            tokio::time::sleep(Duration::from_millis(100 << attempt)).await;
            attempt += 1;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The last one to hold it may be a task of its own runtime, which cannot wait for itself.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Remote {
    pub(in crate::source) fn address(&self) -> String {
        self.server.address(&self.path)
    }

    /// What is at another address of the same server.
    pub(super) fn sibling(&self, address: &str) -> Result<Remote, DataError> {
        let (root, path) = split(address);
        let path = Path::from_url_path(path).ok().filter(|_| root == self.server.root);
        let path = path.ok_or_else(|| {
            let reason = "all files of a pattern are on one server".to_string();
            Fault { kind: RemoteFault::Address, reason }.at(address.to_string())
        })?;
        Ok(Remote { server: self.server.clone(), path })
    }

    /// The last part of its path.
    pub(super) fn file_name(&self) -> &str {
        self.path.filename().unwrap_or_default()
    }

    /// What is called so from here: `a/b.jpg`, `../b.jpg`, or `/b.jpg` from the root.
    pub(in crate::source) fn join(&self, name: &str) -> Option<Remote> {
        let mut parts: Vec<&str> = if name.starts_with('/') {
            Vec::new()
        } else {
            self.path.as_ref().split('/').filter(|part| !part.is_empty()).collect()
        };
        for part in name.split('/') {
            match part {
                "" | "." => {}
                ".." => {
                    parts.pop()?;
                }
                part => parts.push(part),
            }
        }
        let path = Path::parse(parts.join("/")).ok()?;
        Some(Remote { server: self.server.clone(), path })
    }

    /// The folder it lies in; none of the root.
    pub(in crate::source) fn parent(&self) -> Option<Remote> {
        let path = self.path.as_ref();
        if path.is_empty() { None } else { self.join("..") }
    }

    /// All its bytes.
    pub(in crate::source) fn read(&self) -> Result<Bytes, DataError> {
        self.wait(self.server.bytes(&self.path, None, None))
    }

    /// Its first bytes, at most so many of them.
    pub(super) fn start(&self, bytes: u64, object: &Object) -> Result<Bytes, DataError> {
        let range = 0..bytes.min(object.size);
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        self.wait(self.server.bytes(&self.path, Some(range), object.tag.as_ref()))
    }

    /// What it is, if it is a file.
    pub(super) fn look(&self) -> Result<Object, DataError> {
        let options = GetOptions { head: true, ..GetOptions::default() };
        let look = async { Ok(self.server.store.get_opts(&self.path, options).await?.meta) };
        Ok(Object::of(self.wait(look)?))
    }

    /// The files below it.
    pub(super) fn list(&self) -> Result<Vec<Object>, DataError> {
        if !self.server.lists {
            let reason = "a web server does not say what is in a folder".to_string();
            return Err(Fault { kind: RemoteFault::NoListing, reason }.at(self.address()));
        }
        let list = async {
            let all = self.server.store.list(Some(&self.path));
            Ok(all.map_ok(Object::of).try_collect().await?)
        };
        self.wait(list)
    }

    /// Waits for a request about it.
    fn wait<T>(&self, request: impl Future<Output = Result<T, Fault>>) -> Result<T, DataError> {
        let answer = self.server.runtime().block_on(request);
        answer.map_err(|fault| fault.at(self.address()))
    }
}

impl Object {
    /// What tells this state of the file from another; none if the server gives nothing that would.
    pub(super) fn version(&self) -> Option<String> {
        let tells = self.tag.is_some() || self.modified != 0;
        tells.then(|| format!("{} {} {:?}", self.size, self.modified, self.tag))
    }

    fn of(meta: ObjectMeta) -> Object {
        let modified = meta.last_modified.timestamp();
        Object { path: meta.location, size: meta.size, modified, tag: meta.e_tag }
    }
}

/// An address up to the server's name, and the rest.
fn split(address: &str) -> (&str, &str) {
    let server = address.find("://").map_or(0, |at| at + 3);
    let end = address[server..].find('/').map_or(address.len(), |at| server + at);
    address.split_at(end)
}

/// The client of an address's kind, set up by the environment.
fn store(url: &Url, settings: &[(String, String)]) -> Result<Arc<dyn ObjectStore>, Error> {
    let backoff = BackoffConfig { max_backoff: LONGEST_BACKOFF, ..BackoffConfig::default() };
    let retry = RetryConfig { backoff, max_retries: RETRIES, retry_timeout: RETRY_TIMEOUT };
    Ok(match url.scheme() {
        "http" | "https" => {
            let options = LIMITS.into_iter().fold(ClientOptions::new(), |options, (key, value)| {
                options.with_config(key, value)
            });
            let options = options.with_allow_http(true);
            let origin = &url[..url::Position::BeforePath];
            let builder = HttpBuilder::new().with_url(origin).with_client_options(options);
            Arc::new(builder.with_retry(retry).build()?)
        }
        "s3" | "s3a" => {
            let mut builder = AmazonS3Builder::from_env();
            for (key, value) in known(settings, AmazonS3ConfigKey::Client) {
                builder = builder.with_config(key, value);
            }
            Arc::new(builder.with_url(url.as_str()).with_retry(retry).build()?)
        }
        "gs" => {
            let mut builder = GoogleCloudStorageBuilder::from_env();
            for (key, value) in known(settings, GoogleConfigKey::Client) {
                builder = builder.with_config(key, value);
            }
            Arc::new(builder.with_url(url.as_str()).with_retry(retry).build()?)
        }
        _ => {
            let mut builder = MicrosoftAzureBuilder::from_env();
            for (key, value) in known(settings, AzureConfigKey::Client) {
                builder = builder.with_config(key, value);
            }
            Arc::new(builder.with_url(url.as_str()).with_retry(retry).build()?)
        }
    })
}

/// Limits on time.
const LIMITS: [(ClientConfigKey, &str); 3] = [
    (ClientConfigKey::ConnectTimeout, CONNECT),
    (ClientConfigKey::ReadTimeout, READ),
    (ClientConfigKey::Timeout, WHOLE),
];

/// The limits, and those of the settings that this kind of server knows: others are for other kinds.
fn known<K: FromStr>(
    settings: &[(String, String)],
    client: impl Fn(ClientConfigKey) -> K,
) -> Vec<(K, String)> {
    let limits = LIMITS.into_iter().map(|(key, value)| (client(key), value.to_string()));
    let set = settings
        .iter()
        .filter_map(|(key, value)| Some((key.to_ascii_lowercase().parse().ok()?, value.clone())));
    limits.chain(set).collect()
}
