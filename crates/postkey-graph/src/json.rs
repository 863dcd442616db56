//! Reading Graph's JSON with patience: `null` where a list or a text is documented is taken for an empty one.

use serde::{Deserialize, Deserializer, de::DeserializeOwned, de::Error};
use serde_json::Value;

/// For `#[serde(default, deserialize_with = "json::or_default")]`.
pub(crate) fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// For ids that Graph sometimes leaves empty: what does not parse is not there.
pub(crate) fn parsed<'de, D: Deserializer<'de>, T: std::str::FromStr>(from: D) -> Result<Option<T>, D::Error> {
    Ok(Option::<String>::deserialize(from)?.and_then(|text| text.parse().ok()))
}

/// For lists of credentials: one without a key id, which the schema allows, can neither be named nor removed by anyone.
pub(crate) fn with_key_id<'de, D: Deserializer<'de>, T: DeserializeOwned>(from: D) -> Result<Vec<T>, D::Error> {
    let shown: Vec<Value> = or_default(from)?;
    let named = shown.into_iter().filter(|credential| credential["keyId"].is_string());
    named.map(|credential| serde_json::from_value(credential).map_err(D::Error::custom)).collect()
}
