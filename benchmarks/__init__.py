"""Where the time goes, as ratios that can be compared between machines. Run each as a module."""
