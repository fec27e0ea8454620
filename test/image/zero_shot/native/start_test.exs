defmodule Image.ZeroShot.StartTest do
  # What a fresh VM loads, and when.
  use ExUnit.Case, async: true

  @moduletag :tmp_dir
  @moduletag timeout: 120_000
  @moduletag skip: not match?({:unix, :linux}, :os.type())

  @picture "priv/samples/dog.jpg"

  # Ends with the line `:ok`, or with what went wrong.
  defp in_a_fresh_vm(application, script, env \\ []) do
    prelude = """
    import ExUnit.Assertions
    alias Image.ZeroShot
    alias Image.ZeroShot.{Error, Native}
    alias Image.ZeroShot.Call.Options
    alias Image.ZeroShot.Serving.Model
    libtorch? = fn -> File.read!("/proc/self/maps") =~ "libtorch" end
    {:ok, _} = Application.ensure_all_started(:image_zero_shot)

    pixels = fn ->
      recipe = %{resize: {:shortest_edge, 64}, crop: {64, 64}, filter: :bicubic}
      picture = {:path, #{inspect(Path.expand(@picture))}}
      Image.ZeroShot.Test.Pictures.pixels(picture, recipe)
    end
    """

    run(application, prelude <> script, env)
  end

  defp run(application, script, env \\ []) do
    arguments = ["-pa", Path.join(application, "ebin"), "-e", script <> "\nIO.inspect(:ok)"]
    System.cmd("elixir", arguments, stderr_to_stdout: true, env: env)
  end

  defp application, do: Application.app_dir(:image_zero_shot)

  test "libtorch comes with the first model, not with the application, and once" do
    script = """
    refute libtorch?.()
    assert {:ok, <<_::binary-size(12_288)>>} = pixels.()
    refute libtorch?.()

    loads = for _ <- 1..50, do: Task.async(&Native.Loader.torch/0)
    assert loads |> Task.await_many() |> Enum.uniq() == [:ok]
    assert libtorch?.()
    assert {:ok, [:cpu | _]} = Model.devices()
    assert ZeroShot.load(repo: :embedded, device: :cpu) == :ok
    """

    assert {":ok\n", 0} = in_a_fresh_vm(application(), script)
  end

  test "a call before the application is started is an error that says so" do
    script = """
    alias Image.ZeroShot
    alias Image.ZeroShot.{Classifier, Error, Hub, Serving}
    picture = {:path, #{inspect(Path.expand(@picture))}}

    calls =
      for opts <- [[repo: :embedded], [serving: MyApp.Clip]] do
        [
          fn -> ZeroShot.try_classify(picture, ["a"], opts) end,
          fn -> ZeroShot.try_classify(picture, Enum.map(1..600, &to_string/1), opts) end,
          fn -> ZeroShot.try_label(picture, ["a"], opts) end,
          fn -> ZeroShot.try_similarity(picture, picture, opts) end,
          fn -> ZeroShot.try_classifier(["a"], opts) end,
          fn -> Classifier.from_binary("a", opts) end,
          fn -> ZeroShot.load(opts) end,
          fn -> ZeroShot.info(opts) end
        ]
      end

    others = [
      fn -> Hub.fetch("org/name") end,
      fn -> Hub.cached("org/name") end,
      fn -> Serving.start_link(name: MyApp.Clip, repo: :embedded) end
    ]

    for call <- List.flatten([calls, others]) do
      {:error, %Error{reason: :serving_down} = error} = call.()
      true = error.message =~ "the application :image_zero_shot is not started"
    end

    :ok = ZeroShot.unload(repo: :embedded)
    """

    assert {":ok\n", 0} = run(application(), script)
  end

  test "without libtorch there is no model, but pictures can be prepared", %{tmp_dir: dir} do
    # The folder's name is the application's, or it is not found by it.
    broken = Path.join(dir, "image_zero_shot")
    File.mkdir_p!(Path.join(broken, "priv"))
    File.cp_r!(Path.join(application(), "ebin"), Path.join(broken, "ebin"))
    for file <- ~w(nif.so nif_torch.so models), do: copy(file, broken)

    script = """
    for _ <- 1..2 do
      assert {:error, %Error{reason: :libtorch} = error} =
               ZeroShot.load(repo: :embedded, device: :cpu)

      assert error.message =~ "cannot load its native library"
      assert error.message =~ "libtorch is looked for in"
    end

    assert {:error, %Error{reason: :libtorch}} = Model.devices()
    assert {:ok, <<_::binary-size(12_288)>>} = pixels.()
    """

    assert {":ok\n", 0} = in_a_fresh_vm(broken, script)
  end

  test "a service without a home works without a cache, and says so" do
    script = """
    picture = {:path, #{inspect(Path.expand(@picture))}}
    opts = [repo: :embedded, device: :cpu]
    assert {:ok, "dog"} = ZeroShot.try_label(picture, ["dog", "cat"], opts)
    assert {:ok, %{encoders: nil, encoders_note: note}} = ZeroShot.info(opts)
    assert note ==
             "there is no directory to keep them in; set HOME or XDG_CACHE_HOME, or give one as " <>
               ":cache_dir"

    {:ok, _} = Supervisor.start_link([{ZeroShot.Serving, [name: Clip] ++ opts}], strategy: :one_for_one)
    assert {:ok, "dog"} = ZeroShot.try_label(picture, ["dog", "cat"], serving: Clip)

    assert {:error, %Error{reason: :cache_not_writable, message: message}} =
             ZeroShot.try_label(picture, ["dog", "cat"], repo: "org/name", device: :cpu)

    assert message =~ "HF_HOME" and message =~ ":hub_cache"
    """

    names = ~w(HOME XDG_CACHE_HOME HF_HOME HF_HUB_CACHE HUGGINGFACE_HUB_CACHE)

    assert {":ok\n", 0} =
             in_a_fresh_vm(application(), script, for(name <- names, do: {name, nil}))
  end

  test "the library stays when its module is purged, as its threads do" do
    script = """
    assert {:ok, before} = pixels.()

    for _ <- 1..2 do
      :code.purge(Native)
      :code.delete(Native)
    end

    :code.purge(Native)
    :erlang.garbage_collect()
    error = assert_raise(RuntimeError, fn -> Native.cosine("", "") end)
    assert error.message =~ "is not loaded"
    assert Native.Loader.base!() == :ok
    assert pixels.() == {:ok, before}
    """

    assert {":ok\n", 0} = in_a_fresh_vm(application(), script)
  end

  test "a VM ends at once, whatever its pixel threads are doing" do
    script = """
    limits = Options.picture(Options.embed!([]))
    recipe = %{resize: {:shortest_edge, 64}, crop: {64, 64}, filter: :bicubic}
    large = {:raw, :binary.copy(<<1, 2, 3>>, 36_000_000), 6_000, 6_000, 3}
    for _ <- 1..1_000, do: {:ok, _} = Native.preprocess(make_ref(), large, recipe, limits, {1, nil}, nil)
    Process.sleep(50)
    IO.puts("halting")
    """

    for how <- ["System.halt(0)", "System.stop(0); Process.sleep(:infinity)"] do
      {time, {output, status}} = :timer.tc(fn -> in_a_fresh_vm(application(), script <> how) end)
      assert {output, status} == {"halting\n", 0}
      assert time < 60_000_000
    end
  end

  # No link, since a library looks for libtorch beside the file that a link leads to.
  defp copy(file, broken) do
    from = Path.join([application(), "priv", file])
    File.cp_r!(from, Path.join([broken, "priv", file]))
  end

  test "hostile pictures keep no decode thread, nor do pictures that nobody waits for" do
    script = """
    dog = File.read!(#{inspect(Path.expand(@picture))})
    label = &ZeroShot.try_label(&1, ["cat", "dog"], repo: :embedded, device: :cpu, timeout: &2)
    hostile = Image.ZeroShot.Test.Hostile.files()

    attack = fn ->
      for bytes <- hostile, _ <- 1..(2 * System.schedulers_online()),
          do: Task.async(fn -> label.(bytes, 600_000) end)
    end

    serve = fn -> for _ <- 1..20, do: assert label.(dog, 20_000) == {:ok, "dog"} end

    serve.()
    attacks = attack.()
    serve.()

    for {:error, %Error{reason: reason}} <- Task.await_many(attacks, 60_000),
        do: assert reason in [:invalid_image, :image_too_large]

    for task <- attack.(), do: Task.shutdown(task, :brutal_kill)
    serve.()

    attacks = attack.()
    :ok = ZeroShot.unload(repo: :embedded, device: :cpu)
    serve.()

    :ok = Application.stop(:image_zero_shot)
    :ok = Application.start(:image_zero_shot)
    serve.()
    Enum.each(attacks, &Task.shutdown(&1, :brutal_kill))
    """

    {output, status} = in_a_fresh_vm(application(), script)
    assert {List.last(String.split(output, "\n", trim: true)), status} == {":ok", 0}, output
  end
end
