//! Reading Graph's JSON with patience: `null` where a list or a text is documented is taken for an empty one.

use serde::{Deserialize, Deserializer};

/// For `#[serde(default, deserialize_with = "json::or_default")]`.
pub(crate) fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// For ids that Graph sometimes leaves empty: what does not parse is not there.
pub(crate) fn parsed<'de, D: Deserializer<'de>, T: std::str::FromStr>(from: D) -> Result<Option<T>, D::Error> {
    Ok(Option::<String>::deserialize(from)?.and_then(|text| text.parse().ok()))
}
