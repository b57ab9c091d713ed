"""Programs that measure what results.md, results_speed.md and streaming.md report.

Run them from the root of the repository, as `python -m benchmarks.NAME`:

    vfhq_test           the evaluation of the paper on any clips: methods, levels of degradation, metrics
    no_harm             the whole pipeline on sharp and degraded videos: does it harm them, does it help?
    unlabelled_pairs    sheets for people who choose between input and output without knowing which is which
    learned             what each stage of training has learned
    corrections         the effect of corrections to the published training
    train_plain_unet    a plain U-Net to compare with
    speed, roofline     two versions of the code, precisions, memory; networks against the limits of the machine
    speed_models        two models in turns, from file to file
    streaming           window borders, drift, memory over thousands of frames
    detector            the built-in face detector against YuNet, with videos from faceless_videos
    onnx_networks       YuNet, identity and landmark networks in torch and in OpenCV
    scenes, appearance  scene cuts; how well the tracker separates people
    strength            the weights of strength="auto", on faces degraded at known levels
    kill                killed and resumed restorations
    training_data       CPU time of the training data of the direct path

vfhq_test consists of clips, methods (with plain_unet), result_files, tables, analyses and plots;
the networks of the paper's Table 1 are in the package baselines.  no_harm consists of no_harm_report and, like
unlabelled_pairs, of whole_videos.  Both measure sharpness.
"""
