//! Pictures on servers: `http://`, `https://`, `s3://`, `gs://`, `az://` and `abfs://` addresses.
//!
//! The crate `object_store` speaks with them; what it brings along (an async runtime, a TLS stack) is built only
//! with the feature `remote`, without which such an address is an error that says so. Tar archives are read through
//! once for where their files are, which is kept ([`super::kept`]); pictures then come by requests for their
//! own bytes, several at a time and ahead of the loader's threads ([`ahead`]).

#[cfg(feature = "remote")]
mod ahead;
#[cfg(feature = "remote")]
mod index;
#[cfg(feature = "remote")]
mod objects;
#[cfg(feature = "remote")]
mod open;
#[cfg(feature = "remote")]
mod reader;
#[cfg(feature = "remote")]
mod server;

#[cfg(feature = "remote")]
pub(super) use self::objects::Objects;
#[cfg(feature = "remote")]
pub(super) use self::open::open;
#[cfg(feature = "remote")]
pub(super) use self::server::Remote;

/// What addresses of servers begin with.
const SCHEMES: [&str; 9] = ["http", "https", "s3", "s3a", "gs", "az", "azure", "abfs", "abfss"];

/// Whether an address is that of a server.
pub(super) fn is_remote(address: &str) -> bool {
    address.split_once("://").is_some_and(|(scheme, _)| SCHEMES.contains(&scheme))
}

/// The answer of a program that was built without the feature.
#[cfg(not(feature = "remote"))]
pub(super) fn open(
    address: &str,
    _options: &super::OpenOptions,
) -> Result<super::DataSet, crate::error::DataError> {
    Err(crate::error::DataError::NotBuilt { address: address.to_string() })
}
