"""One file a control task: physics only, many environments a call."""
