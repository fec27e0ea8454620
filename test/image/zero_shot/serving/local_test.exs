defmodule Image.ZeroShot.Serving.LocalTest do
  # Counts on its mailbox.
  use ExUnit.Case, async: false

  import Image.ZeroShot.Test.{Servings, Wait}

  alias Image.ZeroShot.Error
  alias Image.ZeroShot.Serving.{Client, Directory, Gate, Local, Server}
  alias Image.ZeroShot.Test.Runner

  @needs %{pictures: 1, decoded_here: 0, prompts: [], parts: 1}

  defp entry(opts), do: Directory.lookup({:model, opts.id})

  defp with_lease(opts, fun) do
    {server, entry} = entry(opts)
    {:ok, lease} = Local.checkout(server, entry, opts.timeout, @needs)
    result = fun.(lease)
    :ok = Local.checkin(lease)
    result
  end

  test "prompts that are known are not asked for again, and come at their places" do
    opts = Runner.opts(open: :ok)
    server = start(opts)
    task = call(opts, [], ["a", "bb"])
    assert_receive {:run, ^server, _tag, [], ["a", "bb"]} = run
    Runner.answer(run)
    assert {:ok, _} = await(task)

    task = Task.async(fn -> with_lease(opts, &Local.run(&1, [], ["ccc", "a", "ccc", "bb"])) end)

    assert_receive {:run, ^server, _tag, [], ["ccc"]} = run
    Runner.answer(run)
    {_, texts, _} = Runner.embeddings([], ["ccc", "a", "ccc", "bb"])
    assert await(task) == {:ok, %{images: "", texts: texts, truncated: [], news: false}}
  end

  test "that a prompt was cut is news once, and told each time" do
    opts = Runner.ready()
    start(opts)
    run = fn -> with_lease(opts, &Local.run(&1, [<<1>>], ["a", "too long"])) end
    assert {:ok, %{truncated: [1], news: true}} = run.()
    assert {:ok, %{truncated: [1], news: false}} = run.()
  end

  test "a part of a long list that fails ends the call with its error" do
    opts = Runner.opts(open: :ok, info: [max_batch: 1], max_cached_prompts: 0)
    server = start(opts)
    task = call(opts, [], for(n <- 1..40, do: "prompt #{n}"))
    assert_receive {:run, ^server, _tag, [], first} = run
    assert length(first) == 16
    Runner.answer(run)
    assert_receive {:run, ^server, tag, [], _second}
    send(server, {tag, {:error, {:torch, "no such luck"}}})

    # A batch of one request that fails is not tried again.
    assert {:error, %Error{reason: :torch, message: "no such luck"}} = await(task)
    refute_received {:run, _, _, _, _}
  end

  test "a serving that is gone says so to those who come and to those who hold a lease" do
    opts = Runner.ready()
    start(opts)
    {server, entry} = entry(opts)
    {:ok, lease} = Local.checkout(server, entry, 1_000, @needs)
    Client.unload(opts)
    assert Local.checkout(server, entry, 1_000, @needs) == :gone
    assert {:error, %Error{reason: :serving_down}} = Local.run(lease, [<<1>>], [])
    assert Local.checkin(lease) == :ok
    refute Gate.open?(entry.gate)
  end

  test "a model that cannot be loaded is an error, and its place is free again" do
    opts = Runner.opts()
    server = Server.start_child({:model, opts.id}, opts)
    assert_receive {:opening, loader}
    {^server, entry} = entry(opts)
    task = Task.async(fn -> Local.checkout(server, entry, 1_000, @needs) end)
    wait_for_callers(opts, 1)
    error = %Error{reason: :io, message: "no such luck"}
    await_end(server, fn -> send(loader, {:open, {:error, error}}) end)
    assert await(task) == {:error, error}
  end
end
