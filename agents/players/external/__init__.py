"""Other programs as players: engines that speak GTP or UCI, started, asked, judged and ended."""
