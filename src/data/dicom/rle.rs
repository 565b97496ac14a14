//! RLE Lossless (PS3.5 annex G): byte planes, each packed as in PackBits.

use super::dataset::Parsed;

/// Unpacks `planes` byte planes of `area` bytes each, the most significant of each sample first, into little-endian
/// samples of `width` bytes with their channels side by side.
pub fn decode(data: &[u8], area: usize, channels: usize, width: usize) -> Parsed<Vec<u8>> {
    let planes = channels * width;
    let words: Vec<usize> =
        data.as_chunks::<4>().0.iter().take(16).map(|&word| u32::from_le_bytes(word) as usize).collect();
    if words.len() < 16 || words[0] != planes || planes > 15 {
        return Err(format!("its RLE header names {} segments for {planes}", words.first().unwrap_or(&0)));
    }
    let mut out = vec![0; area * planes];
    for plane in 0..planes {
        let start = words[plane + 1];
        let end = if plane + 1 < planes { words[plane + 2] } else { data.len() };
        let segment = data.get(start..end).ok_or("its RLE segments lie outside the data")?;
        let (channel, byte) = (plane / width, width - 1 - plane % width);
        let places = out[channel * width + byte..].iter_mut().step_by(planes);
        if unpack(segment, places) < area {
            return Err("an RLE segment is too short".into());
        }
    }
    Ok(out)
}

/// Writes the unpacked bytes to `places` and returns their number.
fn unpack<'a>(mut packed: &[u8], mut places: impl ExactSizeIterator<Item = &'a mut u8>) -> usize {
    let wanted = places.len();
    while let [head, rest @ ..] = packed {
        let head = usize::from(*head);
        packed = match head {
            0..128 => {
                let run = rest.len().min(head + 1);
                places.by_ref().take(run).zip(rest).for_each(|(place, &byte)| *place = byte);
                &rest[run..]
            }
            // A no-op.
            128 => rest,
            _ => match rest {
                [byte, rest @ ..] => {
                    places.by_ref().take(257 - head).for_each(|place| *place = *byte);
                    rest
                }
                [] => rest,
            },
        };
        if places.len() == 0 {
            break;
        }
    }
    wanted - places.len()
}
