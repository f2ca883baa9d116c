"""The Visual Centrifuge (Alayrac, Carreira, Zisserman, CVPR 2019): a clip into its layers."""
