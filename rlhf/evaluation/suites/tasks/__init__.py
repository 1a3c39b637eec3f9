"""Where suites come from: own ones, files in published formats, positions of games, lm_eval."""
