//! Lists of messages, decoded element by element.

use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use super::WireError;

/// The tag of a list's elements.
const ITEM: u32 = 1;

/// Decodes the elements of a list, and maps each.
///
/// An element takes two bytes of a frame, and a multiple of that in memory: so it is mapped before the
/// next one is decoded, and there are no more of them than `limit`.
pub(super) fn decode<P: Message + Default, T>(
    mut bytes: &[u8],
    limit: usize,
    mut map: impl FnMut(P) -> Result<T, WireError>,
) -> Result<Vec<T>, WireError> {
    let mut list = Vec::new();
    while !bytes.is_empty() {
        let (tag, wire_type) = decode_key(&mut bytes)?;
        if (tag, wire_type) != (ITEM, WireType::LengthDelimited) {
            skip_field(wire_type, tag, &mut bytes, DecodeContext::default())?;
            continue;
        }
        if list.len() == limit {
            return Err(WireError::TooMany(limit));
        }
        let length = usize::try_from(decode_varint(&mut bytes)?);
        let item = length.ok().and_then(|length| bytes.split_off(..length));
        list.push(map(P::decode(item.ok_or(WireError::Part("an element of a list"))?)?)?);
    }
    Ok(list)
}
