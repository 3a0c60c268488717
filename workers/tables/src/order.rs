//! Which value stands where in the order of many, found so that it can be stopped at any time.

use crate::{
    TableError,
    watch::{PIECE, Watch},
};

/// Bits that one pass over the values looks at.
const BITS: usize = 8;

/// What these bits can be.
const DIGITS: usize = 1 << BITS;

/// The bit that negative numbers have.
const SIGN: u64 = 1 << 63;

/// The value at a place in their order, from 0, which there is (radix selection: digit by digit, the first one first).
pub(crate) fn nth(values: &[f64], mut place: usize, watch: &Watch<'_>) -> Result<f64, TableError> {
    let (mut found, mut known) = (0_u64, 0_u64);
    for shift in (0..u64::BITS).step_by(BITS).rev() {
        let mut counts = [0_usize; DIGITS];
        for piece in values.chunks(PIECE) {
            watch.check()?;
            for key in piece.iter().map(|value| key(*value)).filter(|key| key & known == found) {
                counts[digit(key, shift)] += 1;
            }
        }
        let mut digit = 0;
        while digit + 1 < DIGITS && place >= counts[digit] {
            place -= counts[digit];
            digit += 1;
        }
        found |= (digit as u64) << shift;
        known |= (DIGITS as u64 - 1) << shift;
    }
    Ok(value(found))
}

/// The values in their order (radix sort: digit by digit, the last one first).
pub(crate) fn sorted(values: Vec<f64>, watch: &Watch<'_>) -> Result<Vec<f64>, TableError> {
    let mut from = values;
    let mut to = vec![0.0; from.len()];
    for shift in (0..u64::BITS).step_by(BITS) {
        // How many values have each digit, and then where the next of them goes.
        let mut places = [0_usize; DIGITS];
        for piece in from.chunks(PIECE) {
            watch.check()?;
            piece.iter().for_each(|value| places[digit(key(*value), shift)] += 1);
        }
        let mut next = 0;
        for place in &mut places {
            (*place, next) = (next, next + *place);
        }
        for piece in from.chunks(PIECE) {
            watch.check()?;
            for value in piece {
                let place = &mut places[digit(key(*value), shift)];
                to[*place] = *value;
                *place += 1;
            }
        }
        std::mem::swap(&mut from, &mut to);
    }
    Ok(from)
}

const fn digit(key: u64, shift: u32) -> usize {
    (key >> shift) as usize % DIGITS
}

/// A whole number that is ordered as `f64::total_cmp` orders values.
const fn key(value: f64) -> u64 {
    let bits = value.to_bits();
    if bits & SIGN == 0 { bits | SIGN } else { !bits }
}

/// The value of a key.
const fn value(key: u64) -> f64 {
    f64::from_bits(if key & SIGN == 0 { !key } else { key & !SIGN })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_sorting(values in prop::collection::vec(prop_oneof![any::<f64>(), (-3_i32..3).prop_map(f64::from)], 1..200)) {
            let mut expected = values.clone();
            expected.sort_by(f64::total_cmp);
            let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            let found: Vec<f64> =
                (0..values.len()).map(|place| nth(&values, place, &Watch::nobody()).unwrap()).collect();
            prop_assert_eq!(bits(&found), bits(&expected));
            prop_assert_eq!(bits(&sorted(values, &Watch::nobody()).unwrap()), bits(&expected));
        }
    }

    #[test]
    fn stops_when_told_to() {
        let stopped = Watch::new(&|_, _| false);
        assert_eq!(nth(&[1.0], 0, &stopped).unwrap_err().code(), "cancelled");
        assert_eq!(sorted(vec![1.0], &stopped).unwrap_err().code(), "cancelled");
    }
}
