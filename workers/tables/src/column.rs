//! What a column holds, in memory that does not grow with its length.

use fourmi_kinds::{ColumnInfo, ColumnType, NumberStatistics};

use crate::{
    TableError,
    delimited::short,
    number::{self, Style},
    sketch::{Distinct, Levels, MOST_LEVELS, Reservoir, hash, hash_number},
    spread::{Moments, Spread, quantile, spread},
    value::{self, LARGEST},
    watch::Watch,
};

/// Most frequent values that are told.
const TOP: usize = 10;

/// Different texts are categories, however few rows there are.
const FEW_LEVELS: u64 = 20;

/// Texts that are longer on average are no keys.
const LONGEST_KEY: u64 = 64;

/// Rows from which on a column without a telling name can be a key.
const KEY_ROWS: u64 = 3;

/// The quantiles that are told.
const QUANTILES: [f64; 7] = [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99];

/// Parts of the histogram.
const PARTS: usize = 20;

/// What one column may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    /// Bytes of hashes, by which different values are counted.
    pub(crate) distinct_bytes: usize,
    /// Numbers of which quantiles are taken.
    pub(crate) numbers: usize,
    /// Bytes of categories.
    pub(crate) level_bytes: usize,
}

/// Gathers what a column holds.
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) style: Style,
    pub(crate) missing: u64,
    /// Numbers beyond [`LARGEST`], which count as missing.
    pub(crate) out_of_range: u64,
    numbers: u64,
    whole: u64,
    booleans: u64,
    dates: u64,
    /// Neither numbers, nor booleans, nor dates.
    texts: u64,
    text_bytes: u64,
    /// The first value that is no number: its row and text.
    no_number: Option<(u64, String)>,
    /// Whether each number could be read in the other style too, and whether some means something else in it.
    fits_other: bool,
    some_fit_other: bool,
    commas: bool,
    distinct: Distinct,
    pub(crate) levels: Levels,
    moments: Moments,
    drawn: Reservoir,
    min: f64,
    max: f64,
    /// The next number, as long as they count up from 0 or 1.
    next: Option<f64>,
}

/// Where the numbers of a column with the same name begin to be drawn.
const SEED: u64 = 42;

impl Column {
    pub(crate) fn new(name: String, style: Style, missing: u64, room: Room) -> Self {
        Self {
            name,
            style,
            missing,
            out_of_range: 0,
            numbers: 0,
            whole: 0,
            booleans: 0,
            dates: 0,
            texts: 0,
            text_bytes: 0,
            no_number: None,
            fits_other: true,
            some_fit_other: false,
            commas: false,
            distinct: Distinct::within(room.distinct_bytes),
            levels: Levels::new(room.level_bytes),
            moments: Moments::default(),
            drawn: Reservoir::new(room.numbers, SEED),
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            next: None,
        }
    }

    pub(crate) fn add(&mut self, row: u64, text: &[u8]) {
        if value::is_missing(text) {
            self.missing += 1;
            return;
        }
        let number = number::number(text, self.style);
        if number.is_none_or(|number| !number.plain) && self.fits_other {
            match number::number(text, self.style.other()) {
                Some(_) => self.some_fit_other = true,
                None => self.fits_other = false,
            }
        }
        let value = match number {
            Some(number) if number.value.abs() > LARGEST => {
                self.out_of_range += 1;
                return;
            }
            Some(number) => {
                self.number(number, text);
                Some(number.value)
            }
            None => self.other(row, text),
        };
        if let Some(value) = value {
            self.moments.add(value);
            self.drawn.add(value);
            self.min = self.min.min(value);
            self.max = self.max.max(value);
        }
        // A whole number that a float cannot hold is told apart by its text.
        let key = number.filter(|number| number.value.abs() < 9e15).map(|number| hash_number(number.value));
        self.count(text, key);
    }

    /// Counts a value among the different ones.
    fn count(&mut self, text: &[u8], key: Option<u64>) {
        if self.levels.overflowed && self.numbers == self.present() {
            // Numbers that are many are no categories: what is known of their texts is given up.
            self.levels.forget();
            self.distinct.add(key.unwrap_or_else(|| hash(text)));
            return;
        }
        let hashed = hash(text);
        if self.levels.add(hashed, text) {
            self.distinct.repeat();
        } else {
            self.distinct.add(key.unwrap_or(hashed));
        }
    }

    fn number(&mut self, number: number::Number, text: &[u8]) {
        self.commas |= !number.plain && text.contains(&b',');
        let counts = match self.next {
            None => self.numbers == 0 && (number.value == 0.0 || number.value == 1.0),
            Some(next) => number.value == next,
        };
        self.next = (counts && number.whole).then_some(number.value + 1.0);
        self.numbers += 1;
        self.whole += u64::from(number.whole);
    }

    /// Something else than a number; a date is one too.
    fn other(&mut self, row: u64, text: &[u8]) -> Option<f64> {
        self.text_bytes += text.len() as u64;
        if self.no_number.is_none() {
            self.no_number = Some((row, short(&String::from_utf8_lossy(&text[..text.len().min(400)]))));
        }
        if value::boolean(text).is_some() {
            self.booleans += 1;
            return None;
        }
        let date = value::date(text);
        *if date.is_some() { &mut self.dates } else { &mut self.texts } += 1;
        date
    }

    /// Values that are there.
    const fn present(&self) -> u64 {
        self.numbers + self.booleans + self.dates + self.texts
    }

    /// The other style, if the numbers are better read in it, in a table with such a delimiter.
    pub(crate) fn better_style(&self, delimiter: u8) -> Option<Style> {
        if !self.some_fit_other || !self.fits_other {
            return None;
        }
        let reads_all = self.numbers > 0 && self.numbers == self.present();
        let wanted = match self.style {
            _ if !reads_all => self.style.other(),
            // "1,234" can be read either way. Who separates values by semicolons does so because commas are in the numbers.
            Style::Point if self.commas && delimiter == b';' => Style::Comma,
            // "1.234" alone is no thousands.
            Style::Comma if !self.commas => Style::Point,
            style => style,
        };
        (wanted != self.style).then_some(wanted)
    }

    /// Whether commas in all numbers could mean thousands as well as a fraction.
    pub(crate) fn is_ambiguous(&self) -> bool {
        self.commas && self.some_fit_other && self.fits_other && self.numbers > 0 && self.numbers == self.present()
    }

    /// If nearly all values are numbers: how many are not, with the row and text of the first.
    pub(crate) fn nearly_numbers(&self) -> Option<(u64, u64, &str)> {
        let others = self.present() - self.numbers;
        let (row, text) = self.no_number.as_ref()?;
        (self.numbers >= 9 * others && self.numbers > 0).then_some((others, *row, text.as_str()))
    }

    /// What it holds.
    pub(crate) fn column_type(&self) -> ColumnType {
        let present = self.present();
        let (distinct, estimated) = self.distinct();
        if present == 0 {
            return ColumnType::Empty;
        }
        if !estimated && distinct == 1 {
            return ColumnType::Constant;
        }
        if self.numbers == present {
            return match self.whole == present {
                true if self.is_key() => ColumnType::Identifier,
                true => ColumnType::Integer,
                false => ColumnType::Float,
            };
        }
        if self.booleans == present {
            return ColumnType::Boolean;
        }
        if self.dates == present {
            return ColumnType::Date;
        }
        if self.is_text_key() {
            ColumnType::Identifier
        } else if !self.levels.overflowed
            && distinct <= MOST_LEVELS as u64
            && (distinct <= FEW_LEVELS || distinct <= present / 2)
        {
            ColumnType::Category
        } else {
            ColumnType::Text
        }
    }

    /// Whole numbers that are all different, and either are called a key or count the rows.
    fn is_key(&self) -> bool {
        let counts = self.next.is_some() && self.missing + self.out_of_range == 0 && self.numbers >= KEY_ROWS;
        self.distinct.all_different() && (counts || is_key_name(&self.name))
    }

    /// Whether it has whole numbers only.
    pub(crate) const fn is_whole(&self) -> bool {
        self.whole == self.present()
    }

    /// Short texts that are all different.
    fn is_text_key(&self) -> bool {
        let present = self.present();
        let short = self.text_bytes / present.max(1) <= LONGEST_KEY;
        self.distinct.all_different() && short && (present >= KEY_ROWS || is_key_name(&self.name))
    }

    fn distinct(&self) -> (u64, bool) {
        let present = self.present();
        if self.numbers < present && !self.levels.overflowed {
            // "1" and "1.0" are the same number, but not the same text.
            return (self.levels.len() as u64, false);
        }
        self.distinct.number(present)
    }

    /// What is told of it. It is at its end then.
    pub(crate) fn info(mut self, watch: &Watch<'_>) -> Result<ColumnInfo, TableError> {
        let column_type = self.column_type();
        let (distinct, distinct_estimated) = self.distinct();
        let is_number = matches!(column_type, ColumnType::Integer | ColumnType::Float | ColumnType::Date);
        let top = if is_number { Vec::new() } else { self.top() };
        let name = std::mem::take(&mut self.name);
        let missing = self.missing + self.out_of_range;
        let numbers = if is_number { Some(self.statistics(watch)?) } else { None };
        Ok(ColumnInfo { name, column_type, missing, distinct, distinct_estimated, numbers, top })
    }

    fn top(&self) -> Vec<(String, u64)> {
        let mut levels = self.levels.sorted();
        levels.sort_by_key(|level| std::cmp::Reverse(level.count));
        levels.truncate(TOP);
        levels.into_iter().map(|level| (short(&String::from_utf8_lossy(&level.text)), level.count)).collect()
    }

    fn statistics(self, watch: &Watch<'_>) -> Result<NumberStatistics, TableError> {
        let number = self.present();
        let mut moments = self.moments.spread();
        let drawn = self.drawn.sorted();
        let is_lost = moments.sd == 0.0 && self.min < self.max;
        if is_lost || ![moments.mean, moments.sd, moments.skewness].iter().all(|moment| moment.is_finite()) {
            moments = spread(&drawn, watch)?;
        }
        let Spread { mean, sd, skewness } = moments;
        let of_sample = if number > 1 { (number as f64 / (number - 1) as f64).sqrt() } else { 0.0 };
        Ok(NumberStatistics {
            min: self.min,
            max: self.max,
            mean,
            sd: sd * of_sample,
            skewness,
            quantiles: QUANTILES.map(|share| quantile(&drawn, share)),
            histogram: histogram(&drawn, self.min, self.max, number),
        })
    }
}

/// How many of so many values lie in each part, as far as sorted values drawn from them tell.
fn histogram(drawn: &[f64], min: f64, max: f64, number: u64) -> Vec<u64> {
    let mut counts = [0_u64; PARTS];
    // Half of it cannot overflow; the quotient is the same.
    let width = max / 2.0 - min / 2.0;
    for value in drawn {
        let share = if width > 0.0 { (value / 2.0 - min / 2.0) / width } else { 0.0 };
        counts[((share * PARTS as f64) as usize).min(PARTS - 1)] += 1;
    }
    let seen = drawn.len().max(1) as u64;
    // Each is rounded so that they add up.
    let (mut before, mut told) = (0, 0);
    counts
        .iter()
        .map(|count| {
            before += count;
            let until = (u128::from(before) * u128::from(number) / u128::from(seen)) as u64;
            let here = until - told;
            told = until;
            here
        })
        .collect()
}

/// Whether a column of this name is a key: `id`, `user_id`, `userId`, `UUID`, `order key`; but not `humid` or `monkey`.
fn is_key_name(name: &str) -> bool {
    const ENDS: [&str; 4] = ["uuid", "guid", "key", "id"];
    ENDS.iter().any(|end| {
        let Some(from) = name.len().checked_sub(end.len()).filter(|&from| name.is_char_boundary(from)) else {
            return false;
        };
        let (before, last) = name.split_at(from);
        last.eq_ignore_ascii_case(end)
            && match before.chars().next_back() {
                None => true,
                Some(before) if !before.is_alphabetic() => true,
                // userId, userID, but not HUMID
                Some(before) => before.is_lowercase() && last.starts_with(char::is_uppercase),
            }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_names_of_keys() {
        for name in ["id", "ID", "user_id", "userId", "userID", "user id", "uuid", "UUID", "row-key", "key", "1id"] {
            assert!(is_key_name(name), "{name}");
        }
        for name in ["humid", "HUMID", "paid", "monkey", "grid", "identity", "", "é", "Covid"] {
            assert!(!is_key_name(name), "{name}");
        }
    }

    #[test]
    fn histograms_add_up() {
        let drawn: Vec<f64> = (0..100).map(f64::from).collect();
        assert_eq!(histogram(&drawn, 0.0, 99.0, 100).iter().sum::<u64>(), 100);
        assert_eq!(histogram(&drawn, 0.0, 99.0, 1_234_567).iter().sum::<u64>(), 1_234_567);
        assert_eq!(histogram(&[3.0, 3.0], 3.0, 3.0, 2)[0], 2);
        assert_eq!(histogram(&[-1e150, 1e150], -1e150, 1e150, 2), {
            let mut counts = vec![0; PARTS];
            (counts[0], counts[PARTS - 1]) = (1, 1);
            counts
        });
    }
}
