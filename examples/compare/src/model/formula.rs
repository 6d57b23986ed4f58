//! Formulas: sums of terms, each a coefficient times a quantity that depends on the size, and their
//! fit.

use std::fmt;

/// The size that a formula is evaluated at.
#[derive(Clone, Copy, Debug)]
pub struct At {
    /// The number of nodes.
    pub nodes: f64,
    /// The size of the value in a session, in bytes.
    pub value: f64,
    /// Reads per second.
    pub reads: f64,
}

/// The quantity that a term is proportional to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Factor {
    /// A constant.
    One,
    /// The nodes.
    Nodes,
    /// The ordered pairs of nodes.
    Pairs,
    /// Copies on all other nodes.
    Others,
    /// The share of requests that reach another node than the owner.
    Away,
    /// The share of requests that reach a node without a copy, if two nodes have one.
    Elsewhere,
    /// The copies on all other nodes, and the way from another node to the owner.
    OthersAndAway,
    /// One copy, and the way from another node to the owner.
    OneAndAway,
    /// The share of sessions that a node holds, if one node holds each.
    Share,
    /// The share of sessions that a node holds, if two nodes hold each.
    TwoShares,
    /// The ordered pairs of nodes, while there are reads, at any rate.
    PairsByRead,
}

/// A term without its coefficient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// The quantity that it is proportional to.
    pub factor: Factor,
    /// True if it is also proportional to the size of the value.
    pub is_by_byte: bool,
}

/// A predicted quantity, as a sum of terms.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Formula(pub Vec<(f64, Term)>);

impl Factor {
    fn at(self, at: At) -> f64 {
        let n = at.nodes;
        match self {
            Self::One => 1.0,
            Self::Nodes => n,
            Self::Pairs => n * (n - 1.0),
            Self::Others => n - 1.0,
            Self::Away => (n - 1.0) / n,
            Self::Elsewhere => (n - 2.0).max(0.0) / n,
            Self::OthersAndAway => n - 1.0 + (n - 1.0) / n,
            Self::OneAndAway => 1.0 + (n - 1.0) / n,
            Self::Share => 1.0 / n,
            Self::TwoShares => 2.0_f64.min(n) / n,
            Self::PairsByRead => n * (n - 1.0) / at.reads.max(1.0),
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::One => "",
            Self::Nodes => "N",
            Self::Pairs => "N·(N−1)",
            Self::Others => "(N−1)",
            Self::Away => "(N−1)/N",
            Self::Elsewhere => "(N−2)/N",
            Self::OthersAndAway => "(N−1+(N−1)/N)",
            Self::OneAndAway => "(1+(N−1)/N)",
            Self::Share => "1/N",
            Self::TwoShares => "2/N",
            Self::PairsByRead => "N·(N−1)/r",
        }
    }
}

impl Term {
    /// A term that does not grow with the value.
    pub const fn of(factor: Factor) -> Self {
        Self { factor, is_by_byte: false }
    }

    /// A term that grows with the value.
    pub const fn by_byte(factor: Factor) -> Self {
        Self { factor, is_by_byte: true }
    }

    fn at(self, at: At) -> f64 {
        self.factor.at(at) * if self.is_by_byte { at.value } else { 1.0 }
    }
}

impl Formula {
    /// The sum at a size.
    pub fn at(&self, at: At) -> f64 {
        self.0.iter().map(|(coefficient, term)| coefficient * term.at(at)).sum()
    }

    /// Fits the sum of these terms to the points, by relative error. No cost is negative, so a term
    /// with a negative coefficient is left out. So is a term that the points cannot distinguish
    /// from the others.
    pub fn fit(terms: &[Term], points: &[(At, f64)]) -> Self {
        let mut terms = terms.to_vec();
        while !terms.is_empty() {
            let Some(coefficients) = least_squares(&terms, points) else {
                terms.pop();
                continue;
            };
            let lowest =
                (0..terms.len()).min_by(|a, b| coefficients[*a].total_cmp(&coefficients[*b]));
            match lowest {
                Some(n) if coefficients[n] < 0.0 => drop(terms.remove(n)),
                _ => return Self(coefficients.into_iter().zip(terms).collect()),
            }
        }
        Self::default()
    }
}

/// The coefficients by the normal equations, each point weighed by its own size. `None` if the points
/// cannot tell the terms apart.
fn least_squares(terms: &[Term], points: &[(At, f64)]) -> Option<Vec<f64>> {
    let n = terms.len();
    // Scaled, so that bytes of values and counts of nodes weigh the same.
    let scales: Vec<_> = terms.iter().map(|term| scale(*term, points)).collect();
    let mut rows = vec![vec![0.0; n + 1]; n];
    let largest = points.iter().map(|(_, value)| value.abs()).fold(0.0, f64::max);
    if largest == 0.0 {
        return Some(vec![0.0; n]);
    }
    for (at, value) in points {
        // The relative error of tiny values is not known precisely, so their weight is limited.
        let weight = value.abs().max(largest * 0.02).powi(-2);
        let row: Vec<_> = (0..n).map(|i| terms[i].at(*at) / scales[i]).collect();
        for i in 0..n {
            for j in 0..n {
                rows[i][j] += weight * row[i] * row[j];
            }
            rows[i][n] += weight * row[i] * value;
        }
    }
    let solved = solve(rows)?;
    Some(solved.iter().zip(scales).map(|(coefficient, scale)| coefficient / scale).collect())
}

fn scale(term: Term, points: &[(At, f64)]) -> f64 {
    let largest = points.iter().map(|(at, _)| term.at(*at).abs()).fold(0.0, f64::max);
    if largest == 0.0 { 1.0 } else { largest }
}

/// Gaussian elimination of rows that end with their right side.
fn solve(mut rows: Vec<Vec<f64>>) -> Option<Vec<f64>> {
    let n = rows.len();
    let size = rows.iter().enumerate().map(|(i, row)| row[i].abs()).fold(0.0, f64::max);
    for i in 0..n {
        let pivot = (i..n).max_by(|a, b| rows[*a][i].abs().total_cmp(&rows[*b][i].abs()))?;
        rows.swap(i, pivot);
        if rows[i][i].abs() <= size * SINGULAR {
            return None;
        }
        let reduced = rows[i].clone();
        for (_, row) in rows.iter_mut().enumerate().filter(|(j, _)| *j != i) {
            let factor = row[i] / reduced[i];
            for (value, subtracted) in row.iter_mut().zip(&reduced).skip(i) {
                *value -= factor * subtracted;
            }
        }
    }
    Some((0..n).map(|i| rows[i][n] / rows[i][i]).collect())
}

const SINGULAR: f64 = 1e-9;

impl fmt::Display for Formula {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let terms = self.0.iter().filter(|(coefficient, _)| *coefficient != 0.0);
        let mut terms: Vec<_> =
            terms.map(|(coefficient, term)| shown(*coefficient, *term)).collect();
        if terms.is_empty() {
            terms.push("0".to_owned());
        }
        f.write_str(&terms.join(" + "))
    }
}

fn shown(coefficient: f64, term: Term) -> String {
    let digits = (2 - coefficient.abs().log10().floor() as i32).clamp(0, 6) as usize;
    let mut parts = vec![format!("{coefficient:.digits$}")];
    parts.extend(term.is_by_byte.then(|| "V".to_owned()));
    parts.extend(Some(term.factor.text().to_owned()).filter(|text| !text.is_empty()));
    parts.join("·")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fit_finds_the_terms_of_exact_points() {
        let terms = [Term::of(Factor::Others), Term::of(Factor::Away), Term::by_byte(Factor::One)];
        let exact = Formula(vec![(280.0, terms[0]), (250.0, terms[1]), (1.1, terms[2])]);
        let sizes = [(2, 100), (3, 100), (5, 100), (3, 2_000)].map(|(n, v)| size(n, v));
        let points = sizes.map(|at| (at, exact.at(at)));
        let found = Formula::fit(&terms, &points);
        let away = size(50, 4_000);
        assert!((found.at(away) / exact.at(away) - 1.0).abs() < 1e-6, "{found}");
    }

    #[test]
    fn no_cost_is_negative() {
        let terms = [Term::of(Factor::One), Term::of(Factor::Nodes)];
        let found = Formula::fit(&terms, &[(size(2, 0), 10.0), (size(5, 0), 9.0)]);
        assert_eq!(found.0.len(), 1);
        assert!((9.0..10.0).contains(&found.at(size(9, 0))), "{found}");
    }

    #[test]
    fn what_the_points_cannot_tell_is_left_out() {
        let terms = [Term::of(Factor::One), Term::by_byte(Factor::One)];
        let found = Formula::fit(&terms, &[(size(3, 100), 7.0)]);
        assert_eq!(found.to_string(), "7.00");
    }

    #[test]
    fn formulas_are_readable() {
        let formula = Formula(vec![
            (281.4, Term::of(Factor::Others)),
            (1.07, Term::by_byte(Factor::OthersAndAway)),
        ]);
        assert_eq!(formula.to_string(), "281·(N−1) + 1.07·V·(N−1+(N−1)/N)");
        assert_eq!(Formula::default().to_string(), "0");
    }

    fn size(nodes: u32, value: u32) -> At {
        At { nodes: nodes.into(), value: value.into(), reads: 300.0 }
    }
}
