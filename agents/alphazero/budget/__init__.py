"""From a game, a machine and a time to a configuration: presets, speeds, plans and corrections."""
