"""Three hospitals fit one logistic regression on cases and controls, and nobody shows a row.

A case-control study of cancer of the oesophagus (Breslow and Day 1980; R's data set `esoph`): age, alcohol and tobacco
in groups, and how many cases and controls there were in each. Not every hospital has every group; the columns agree all
the same, since the levels are found by a secure sum first.

Expect coefficients and standard errors of the pooled rows, to the last digits that R prints: alcgp[T.120+] 3.6029 with
standard error 0.3850. Takes about fifteen seconds, most of which is starting the processes.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import tacit

ROWS = Path(__file__).with_name("esoph.csv")


def main() -> None:
    """Fit, print, test and predict."""
    rows = pd.read_csv(ROWS, dtype={"site": str})
    hospitals = {f"hospital-{site}": own.drop(columns="site") for site, own in rows.groupby("site")}
    model = tacit.GLM("cbind(ncases, ncontrols) ~ agegp + alcgp + tobgp", family="binomial")
    with tacit.simulate(hospitals, protocol=tacit.PairwiseMasking()) as federation:
        fit = federation.fit(model)
        print(fit.summary())
        print("\nNo effect of tobacco:", fit.wald_test("tobgp[T.10-19] = tobgp[T.20-29] = tobgp[T.30+] = 0"))
        robust = federation.fit(model, cov_type="HC0")
        print("\nStandard errors, from the model and robust:")
        print(pd.DataFrame({"nonrobust": fit.bse, "HC0": robust.bse}).round(4))
        print(f"\n{len(federation.ledger)} sums were revealed to the coordinator, and nothing else.")
    heavy = pd.DataFrame({"agegp": ["55-64"], "alcgp": ["120+"], "tobgp": ["30+"]})
    print(f"\nPredicted share of cases among {', '.join(heavy.iloc[0])}: {fit.predict(heavy).iloc[0]:.3f}")


if __name__ == "__main__":
    main()
