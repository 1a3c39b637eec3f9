"""The linear baseline: terms, weights and predictions are scikit-learn's; it finds what decides."""

import numpy as np
import pytest
from playout.rlhf.data import synthetic
from playout.rlhf.supervised.classify import linear_baseline, make_task
from playout.rlhf.supervised.tfidf import Features, logistic, ridge


def test_rare_terms_weigh_more_and_rows_have_length_one():
    features = Features(["good film", "good plot", "bad film", "bad plot", "good end", "an end"])
    row = features(["good end", "nothing known", ""])
    assert row.shape == (3, len(features.index))
    assert np.linalg.norm(row.toarray(), axis=1) == pytest.approx([1, 0, 0])
    weights = row.toarray()[0]
    # Three texts say good and two say end; a pair that one text has is left out.
    assert weights[features.index["end"]] > weights[features.index["good"]] > 0
    assert "good end" not in features.index


def test_both_regressions_find_the_word_that_decides():
    texts = ["good film", "bad film", "good plot", "bad plot"] * 5
    labels = np.array([1.0, 0.0, 1.0, 0.0] * 5)
    features = Features(texts)
    for solve in (ridge, logistic):
        weights, _ = solve(features(texts), labels)
        order = sorted(features.index, key=lambda term: weights[features.index[term]])
        assert "bad" in order[0] and "good" in order[-1]


@pytest.mark.peer
@pytest.mark.parametrize("kind", ["labelled", "rated"])
def test_scikit_learn_finds_the_same_terms_and_predictions(kind):
    text = pytest.importorskip("sklearn.feature_extraction.text")
    linear = pytest.importorskip("sklearn.linear_model")
    items = getattr(synthetic, kind)(400)
    task = make_task(items[:300], items[300:])
    theirs = text.TfidfVectorizer(
        sublinear_tf=True, ngram_range=(1, 2), min_df=2, token_pattern=r"\w\w+|[^\w\s]"
    )
    x, test = theirs.fit_transform(task.train[0]), theirs.transform(task.test[0])
    features = Features(task.train[0])
    names = theirs.get_feature_names_out()
    assert sorted(features.index) == sorted(names)
    places = [features.index[name] for name in names]
    np.testing.assert_allclose(
        features(task.test[0]).toarray()[:, places], test.toarray(), atol=1e-12
    )
    ours = linear_baseline(task)
    if kind == "labelled":
        model = linear.LogisticRegression(C=10.0, tol=1e-8, max_iter=1000)
        model.fit(x, np.array(task.train[1]))
        np.testing.assert_allclose(ours[:, 1], model.decision_function(test), atol=1e-3)
    else:
        # Theirs centres the features as well, so that the last digits differ.
        model = linear.Ridge(alpha=1.0).fit(x, task.train[1])
        assert np.corrcoef(ours, model.predict(test))[0, 1] > 0.999
